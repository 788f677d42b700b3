"""The laboratory: embedded PBX, audio grading, what tests of PBXes are made of."""
