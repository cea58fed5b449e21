"""A DICOM node: receives studies, runs models on them, sends the results."""

from hilum.node.config import RETRY_SECONDS as RETRY_SECONDS
from hilum.node.config import NodeConfig as NodeConfig
from hilum.node.config import make_config as make_config
from hilum.node.config import parse_destination as parse_destination
from hilum.node.config import read_config as read_config
from hilum.node.node import Node as Node
