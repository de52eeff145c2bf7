"""Checks that the coded sound in an MPEG stream's frames is complete and in its place.

The data of a layer III frame may begin in the frames before it, so a frame that was lost, or whose
side information is damaged, contradicts its neighbours. CRCs are compared if the encoder wrote any:
one per frame over the control data, and LAME's over the whole stream. In a stream without LAME's,
damage within the coded samples is certain only if it is a long run of zeros; the decoder reports
what else it stumbles over. (It detects a tenth of cases with 8 bytes overwritten in the coded
samples, four fifths with 8 in the side information, half with 8 zeros anywhere, 98 % with 32 zeros
and nearly all with more. Undamaged files have up to 9 zeros in a row, 7 of them within codes. The
codes have no redundancy but their length, which is known only after decoding.)
"""

from dataclasses import dataclass, field

from featurestore.extraction.containers.crc16 import crc16, crc16_bits, crc16_reflected
from featurestore.extraction.containers.mpegbits import covered_bits
from featurestore.extraction.containers.mpegframe import FrameHeader, Lame
from featurestore.extraction.containers.parts import damaged, truncated
from featurestore.extraction.containers.source import Source
from featurestore.extraction.containers.tags import marks_near
from featurestore.text import quantity

_MOST_BACK = 511
"""Maximum number of bytes before a frame at which its data may begin (bit reservoir)."""
_ZEROS = bytes(18)
"""More zeros than coded samples contain: scale factors have at most 16 bytes, LAME's at most 9."""
_LARGE_GAP = 128
"""Gap in bytes between the data of two frames that is too large to be an encoder's rounding."""
_FILLER = 64
"""Maximum number of distinct bytes in the padding that encoders fill frames with."""
_CHANGED = (b"MP3GAIN_", b"mp3gain_")
"""Tags of a program that changes the gain within the frames without updating checksums."""


@dataclass
class FrameChecks:
    """Running checks of a stream's frames, over their concatenated data.

    Attributes:
        position: Number of bytes so far.
        used: Position in bits up to which data was used by frames.
        tail: The last bytes.
        orphans: Positions in the file of frames whose data begin before the stream.
    """

    position: int = 0
    used: int = 0
    tail: bytes = b""
    fitting: int = 0
    unfitting: list[int] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)

    def add(self, source: Source, at: int, header: FrameHeader) -> None:
        """Check one more frame.

        Raises:
            AudioError: Its data overlaps that of another frame, or does not fit into the stream.
        """
        frame = source.at(at, header.num_bytes)
        if header.layer != 3:
            if not frame[1] & 1:
                covered = covered_bits(frame, header)
                self._compare(at, crc16_bits(frame[2:4] + frame[6:], 16 + covered), frame[4:6])
            return
        start = 4 if frame[1] & 1 else 6
        side = frame[start : start + header.side_info - 4]
        sound = frame[start + len(side) :]
        if start == 6:
            self._compare(at, crc16(frame[2:4] + side, 0xFFFF), frame[4:6])
        back, bits = _side_info(side, header)
        begin = self.position - back
        end = 8 * begin + bits
        if bits and 0 <= 8 * begin < self.used:
            raise damaged(f"the MPEG frame at byte {at} misses sound of the frames before it")
        if end > 8 * (self.position + len(sound)):
            raise damaged(f"the side information of the MPEG frame at byte {at} is damaged")
        if bits and begin < 0:
            self.orphans.append(at)
        known = self.tail + sound
        first = self.position - len(self.tail)
        if bits and begin >= first and _ZEROS in known[begin - first : end // 8 - first]:
            raise damaged(f"samples of the MPEG frame at byte {at} are overwritten by zeros")
        self._check_gap(at, side, known, begin, first)
        self.position += len(sound)
        self.tail = known[-_MOST_BACK:]
        self.used = max(self.used, end if bits else 8 * begin)

    def _check_gap(self, at: int, side: bytes, known: bytes, begin: int, first: int) -> None:
        """Check that what no frame uses is what encoders fill frames up with."""
        gap = known[max(0, -(-self.used // 8) - first) : max(0, begin - first)]
        silent = b"" if any(side) else known[max(0, self.position - first) :]
        if max(len(set(gap)) if len(gap) > _LARGE_GAP else 0, len(set(silent))) > _FILLER:
            raise damaged(f"at the MPEG frame at byte {at} there is sound that no frame uses")

    def _compare(self, at: int, computed: int, checksum: bytes) -> None:
        if computed == int.from_bytes(checksum):
            self.fitting += 1
        else:
            self.unfitting.append(at)

    def check_checksums(self) -> None:
        """Check the CRCs of the frames, unless the encoder wrote wrong ones throughout.

        Raises:
            AudioError: Some CRCs do not match.
        """
        if self.unfitting and self.fitting >= len(self.unfitting):
            raise damaged(
                f"the checksum of {quantity(len(self.unfitting), 'MPEG frame')} does not fit, the "
                f"first at byte {self.unfitting[0]}"
            )


def _side_info(side: bytes, header: FrameHeader) -> tuple[int, int]:
    """Return how many bytes before its frame the sound begins, and how many bits it has."""
    bits, left = int.from_bytes(side), 8 * len(side)
    mono = header.channels == 1
    if header.mpeg1:
        back_bits, other, granule, granules = 9, 5 + 4 if mono else 3 + 8, 59, 2
    else:
        back_bits, other, granule, granules = 8, 1 if mono else 2, 63, 1
    left -= back_bits
    back = bits >> left
    left -= other
    total = 0
    for _ in range(granules * header.channels):
        total += bits >> (left - 12) & 0xFFF
        left -= granule
    return back, total


def check_lame(source: Source, start: int, stop: int, header: FrameHeader, lame: Lame) -> None:
    """Compare a stream with the size and the checksum in LAME's first frame.

    Nothing is compared if the header was modified after LAME wrote it, and the checksum is not
    compared if data was appended, or if a program noted that it changed the gain.

    Raises:
        AudioError: They do not match.
    """
    if not lame.checksum or crc16_reflected(source.at(start, lame.covered)) != lame.own_checksum:
        return
    if stop - start < lame.num_bytes:
        raise truncated(f"{stop - start} of {lame.num_bytes} bytes of MPEG frames")
    music = start + header.num_bytes
    fits = crc16_reflected(source.at(music, stop - music)) == lame.checksum
    if fits or stop - start > lame.num_bytes or marks_near(source, start, stop, _CHANGED):
        return
    raise damaged("the sound does not fit the checksum that its encoder, LAME, wrote")
