"""DICOM: studies, series and what is said about them, in and out."""
