"""Predictions as DICOM objects: what is measured of them, pictures and a page of them."""
