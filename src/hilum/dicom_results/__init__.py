"""DICOM objects that say what a model found: SEG, SR, RTSTRUCT, key images and PDF pages."""

from hilum.dicom_results.key_image import KeyImage as KeyImage
from hilum.dicom_results.key_image import make_key_images as make_key_images
from hilum.dicom_results.pdf import make_encapsulated_pdf as make_encapsulated_pdf
from hilum.dicom_results.rtstruct import make_rtstruct as make_rtstruct
from hilum.dicom_results.rtstruct import write_rtstruct as write_rtstruct
from hilum.dicom_results.seg import Segmentation as Segmentation
from hilum.dicom_results.seg import write_segmentation as write_segmentation
from hilum.dicom_results.sr import make_classification_report as make_classification_report
from hilum.dicom_results.sr import make_measurement_report as make_measurement_report
