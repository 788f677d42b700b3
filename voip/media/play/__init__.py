"""What is played: files, arrays, tones, in lists and loops, from readers into a ring."""
