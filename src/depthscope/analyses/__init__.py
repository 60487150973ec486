"""One file, one question; the file's name is the analysis's name everywhere."""
