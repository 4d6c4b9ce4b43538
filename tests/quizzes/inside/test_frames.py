"""A frame comes back as it was, however the stream cuts it; anything else is refused in one way."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quizzes.inside import frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, st.binary())
def test_a_frame_comes_back(header, body):
    assert frames.split(frames.join(header, body)) == (header, body)


@given(st.binary(max_size=60))
def test_other_bytes_are_a_frame_or_a_value_error(data):
    try:
        header, body = frames.split(data)
    except ValueError:
        with pytest.raises(ValueError, match="^malformed message: "):
            frames.split(data)
    else:
        assert len(body) <= len(data) - frames.LENGTH.size and frames.split(frames.join(header, body))[1] == body


def test_a_number_that_json_has_not_is_neither_written_nor_read():
    with pytest.raises(ValueError, match="not JSON compliant"):
        frames.join({"a": float("nan")})
    text = b'{"a": NaN}'
    with pytest.raises(ValueError, match="NaN is not JSON"):
        frames.split(frames.LENGTH.pack(len(text)) + text)


def test_what_is_nested_too_deep_is_refused():
    text = b"[" * 100_000
    with pytest.raises(ValueError, match="malformed message"):
        frames.split(frames.LENGTH.pack(len(text)) + text)


class Trickle(io.BytesIO):
    """A stream that takes and gives three bytes at a time."""

    def write(self, data):
        return super().write(bytes(data[:3]))

    def read(self, size=-1):
        return super().read(min(size, 3))


def test_messages_pass_a_stream_that_takes_them_in_pieces():
    stream = Trickle()
    for number in range(3):
        frames.send(stream, {"number": number}, b"x" * number)
    stream.seek(0)
    received = [frames.split(frames.receive(stream)) for _ in range(3)]
    assert received == [({"number": number}, b"x" * number) for number in range(3)]
    assert frames.receive(stream) is None
