"""Files as such: names, complete writing, output folders, users' text, records of readers."""

from hilum.files.atomic import atomic_path as atomic_path
from hilum.files.atomic import atomic_write_text as atomic_write_text
from hilum.files.atomic import sha256 as sha256
from hilum.files.names import SUFFIXES as SUFFIXES
from hilum.files.names import Readable as Readable
from hilum.files.names import file_of as file_of
from hilum.files.names import header_of as header_of
from hilum.files.names import image_stem as image_stem
from hilum.files.names import image_suffix as image_suffix
from hilum.files.names import longest_name as longest_name
from hilum.files.names import nearest as nearest
from hilum.files.output import OutputFolder as OutputFolder
from hilum.files.output import holds_files as holds_files
from hilum.files.output import is_output as is_output
from hilum.files.record import FileFacts as FileFacts
