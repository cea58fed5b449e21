"""Learning on validation cases what is done around a network: post-processing of its labels, overlap of its patches."""
