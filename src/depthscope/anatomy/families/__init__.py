"""One literal per architecture; the file name is the family's name."""
