"""Every limit on what a file may make bncheck do, so that it cannot take all memory or all time.

Each is checked before anything is allocated or walked through for it, and is far beyond what any
real model needs: what is above it is refused with an error that names the file, or, where reading
less does no harm, read up to it. `docs/safety.md` says what they are for.

Sizes are in bytes unless the comment says otherwise.
"""

from __future__ import annotations

from typing import Final

# Tables: the index of a V2 checkpoint, and a whole V1 checkpoint.
SNAPPY_RATIO: Final = 64  # a copy element turns 3 bytes into at most 64: no honest block grows more
# Keys share prefixes. With a restart every 16 entries, and names under 4 kB, a block's keys take
# less than this many times the block.
KEYS_RATIO: Final = 64

# Partitioned variables.
MOST_COMPARED: Final = 10_000_000  # pairs of slices; a variable in 1,000 parts has none to compare

# Values. ResNet-152's batch norm takes 600 kB, 20,000 layers of 64 channels take 20 MB.
LARGEST_VALUES: Final = 1 << 28  # of all that one audit reads

# Small texts.
LARGEST_STATE_FILE: Final = 4 << 20  # about 100 for each checkpoint
LARGEST_POLICY: Final = 4 << 20
LARGEST_BASELINE: Final = 64 << 20

# Object graphs.
LONGEST_ATTRIBUTE_NAME: Final = 500  # characters of one attribute in a path
LONGEST_LIST_INDEX: Final = 10  # digits of a place in a list
DEEPEST_OBJECT: Final = 64  # objects of one path; a longer one names its last ones alone

# HDF5. Keras' own loader has some, too (keras/src/saving/saving_lib.py, safe_get_h5_dataset).
MOST_LINKS: Final = 2_000_000  # groups and datasets; the largest models have some ten thousand
DEEPEST_GROUP: Final = 100  # groups within groups
PATHS_RATIO: Final = 64  # all paths together, as a multiple of the file
LONGEST_ATTRIBUTE: Final = 1 << 26  # a model_config of 10,000 layers takes 10 MB
MOST_STRINGS: Final = 1 << 20  # elements of an attribute
LONGEST_STRINGS: Final = 1 << 28  # all of them, where each may be as long as the longest
DATASET_FLOOR: Final = 1 << 32  # that a dataset may declare without storing a thousandth of them
DATASET_RATIO: Final = 1000
MOST_CHUNKS: Final = 1 << 16  # that `verify` unpacks of one dataset; Keras stores none in chunks
LARGEST_CHUNK: Final = 1 << 27  # of those, since each is unpacked at once
MOST_UNSTORED: Final = 1 << 24  # to read that way, from all datasets together

# Keras' archives, and the JSON in them.
LARGEST_ZIP_DIRECTORY: Final = 1 << 24  # zipfile reads it at once
LARGEST_UNPACKED: Final = 1 << 30  # of a compressed member, which has to fit into memory
LARGEST_CHECKED: Final = 1 << 26  # of a stored member whose CRC-32 an inspection computes
MEMBER_FLOOR: Final = 1 << 24  # that a member may unpack to, however little it was packed into
MEMBER_RATIO: Final = 1000  # deflate itself ends at 1032, and does that for zeros alone
LARGEST_JSON: Final = 1 << 26  # a configuration of 10,000 layers takes 10 MB
MOST_JSON_PARTS: Final = 1 << 22  # lists and dicts, of 64 bytes; 10,000 layers take a million
DEEPEST_MODEL: Final = 50  # models within models

# Graphs.
LARGEST_GRAPH: Final = (1 << 31) - 1  # protobuf's own limit for one message
LARGEST_TEXT_UNASKED: Final = 16 << 20  # of a text graph that nobody named; it takes 4 s
MOST_META_GRAPHS: Final = 64  # those of TensorFlow's own examples are at most four
MOST_INLINED: Final = 500_000  # nodes; functions that call each other can double without end
# Characters of those nodes' names, each of which has the names of all calls around it: 50,000 nodes
# of a large model take 30 million.
LONGEST_INLINED: Final = 1 << 28
DEEPEST_CALL: Final = 64  # calls within calls
DEEPEST_PREDICATE: Final = 16  # logical ops of one predicate

LONGEST_OUTPUT: Final = 9  # digits of the number of an op's output

# Names.
LONGEST_NUMBER: Final = 18  # digits of a number in a name that is counted with
DEEPEST_SCOPE: Final = 64  # scopes of one name that are walked through
