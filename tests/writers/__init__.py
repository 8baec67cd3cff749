"""Writers of checkpoint files for the tests, for forms that TensorFlow does not write on demand.

They share no code with the package's readers except its generated protobuf messages, so that a
misread fact cannot cancel itself out. What TensorFlow can read, `tests/test_writers.py` has it
read back.
"""

from .bundle import Raw, write_bundle
from .ordered_code import slice_key
from .table import mask, masked_crc, table_bytes, varint, write_table
from .tensor_slices import write_v1

__all__ = [
    "Raw",
    "mask",
    "masked_crc",
    "slice_key",
    "table_bytes",
    "varint",
    "write_bundle",
    "write_table",
    "write_v1",
]
