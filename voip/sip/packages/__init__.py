"""Event packages: what the bodies of NOTIFY and PUBLISH say, one file each."""
