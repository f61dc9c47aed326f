"""NMEA 0183, as satellite receivers speak it: sentences, what they say, and what a group of them says together.

Sans-IO, both sides::

    receiver, assembler = NmeaReceiver(), FixAssembler()
    for sentence in receiver.receive(data):        # noise and binary frames are stepped over
        for fix in assembler.add(sentence): ...
    sentence_of(GGA(time_s=0.0, quality=1), "GN").to_bytes()
"""

from .fixes import Fix, FixAssembler
from .framing import LINE_MAX, NmeaReceiver, Sentence, checksum, crc24q, encode, ubx_frame
from .records import GGA, GLL, GNS, GSA, GST, GSV, KNOT_M_S, RMC, VTG, ZDA, InView, Record, parse, sentence_of

__all__ = [
    "GGA",
    "GLL",
    "GNS",
    "GSA",
    "GST",
    "GSV",
    "KNOT_M_S",
    "LINE_MAX",
    "RMC",
    "VTG",
    "ZDA",
    "Fix",
    "FixAssembler",
    "InView",
    "NmeaReceiver",
    "Record",
    "Sentence",
    "checksum",
    "crc24q",
    "encode",
    "parse",
    "sentence_of",
    "ubx_frame",
]
