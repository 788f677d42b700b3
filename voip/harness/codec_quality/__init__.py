"""How good codecs sound, on a clean path and where packets are lost, judged by PESQ."""
