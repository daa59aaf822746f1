"""A lossless codec for the files of models: each tensor by what it holds, the rest by LZMA.

The host says where the tensors are; the device needs no parser, only numpy. A coded file,
little-endian::

    u8   format
    u16  lanes of the coder, 0 when no tensor is coded
    u32  bytes of the table, u32 of the packed table, u32 of the packed rest
    the table, packed: the pieces of the decoded file in their order (`pieces.Piece`)
    the rest, packed: the bytes of all that is no tensor, one after the other
    the coded tensors: the lanes' states and the words (`rans`)

To decode takes memory for one piece, whatever the size of the file.
"""

from __future__ import annotations

from .encoder import Segment, encode, size_of
from .stream import decode

__all__ = ["Segment", "decode", "encode", "size_of"]
