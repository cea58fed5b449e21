"""DICOM objects that say what a model found: SEG, SR and what they need of their source."""
