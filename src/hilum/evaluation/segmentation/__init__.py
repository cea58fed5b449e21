"""Label maps against label maps: a case, a folder, two folders compared."""
