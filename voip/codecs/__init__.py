"""The codec core: encodings by name, never by payload type. Imports nothing else of `voip` but the ground floor."""
