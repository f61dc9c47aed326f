"""SCPI and IEEE 488.2, both sides, without I/O: https://www.ivifoundation.org/docs/scpi-99.pdf and IEEE Std 488.2-1992.

A controller writes with `format_command`, frames what comes with `Framer`, and reads it with `parse_numbers`,
`parse_identity`, `parse_error` and `parse_block`. An instrument is a `ScpiServer` with handlers.
"""

from vfab.protocols.scpi.framing import Framer, split_arguments, split_units
from vfab.protocols.scpi.messages import Unit, format_command, format_message, parse_message
from vfab.protocols.scpi.mnemonics import HeaderPattern, is_word, short_form, short_header
from vfab.protocols.scpi.replies import (
    NO_ERROR,
    ErrorEntry,
    Identity,
    looks_like_error,
    parse_error,
    parse_errors,
    parse_identity,
)
from vfab.protocols.scpi.resources import as_address, is_resource, resource_of
from vfab.protocols.scpi.server import PENDING, Call, EventStatus, Pending, ScpiError, ScpiServer, StatusByte
from vfab.protocols.scpi.values import (
    Quoted,
    format_argument,
    format_block,
    format_channels,
    format_number,
    parse_block,
    parse_boolean,
    parse_channels,
    parse_number,
    parse_numbers,
    parse_quantity,
    quote,
    strings_of,
    unquote,
)

__all__ = [
    "NO_ERROR",
    "PENDING",
    "Call",
    "ErrorEntry",
    "EventStatus",
    "Framer",
    "HeaderPattern",
    "Identity",
    "Pending",
    "Quoted",
    "ScpiError",
    "ScpiServer",
    "StatusByte",
    "Unit",
    "as_address",
    "format_argument",
    "format_block",
    "format_channels",
    "format_command",
    "format_message",
    "format_number",
    "is_resource",
    "is_word",
    "looks_like_error",
    "parse_block",
    "parse_boolean",
    "parse_channels",
    "parse_error",
    "parse_errors",
    "parse_identity",
    "parse_message",
    "parse_number",
    "parse_numbers",
    "parse_quantity",
    "quote",
    "resource_of",
    "short_form",
    "short_header",
    "split_arguments",
    "split_units",
    "strings_of",
    "unquote",
]
