"""What a machine carries: measured, calibrated, reported. Nothing here gates a build."""
