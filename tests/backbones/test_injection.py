import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldvalue.backbones.injection import averaged, broadcast, mean_of, repeat_padded


def test_a_vector_runs_through_channels_then_columns_then_rows_over_and_over() -> None:
    frame = repeat_padded(torch.tensor([[1.0, 2, 3, 4, 5]]), (2, 2, 3))[0]
    in_order = [frame[channel, row, column] for row in range(2) for column in range(3) for channel in range(2)]
    assert [int(x) for x in in_order] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]


def test_noise_on_the_copies_averages_out_number_by_number() -> None:
    frame = torch.zeros(1, 2, 2)
    frame[0, 0, 0], frame[0, 1, 1] = 3.0, 6.0  # places 0 and 3: copies of the first of three numbers
    assert averaged(frame, 3).tolist() == [4.5, 0.0, 0.0]


@given(st.integers(1, 24), st.integers(1, 4), st.integers(1, 3), st.integers(2, 4))
def test_what_was_padded_comes_back(numbers: int, channels: int, height: int, width: int) -> None:
    frame, vector = (channels, height, width), torch.linspace(-1, 1, 2 * numbers).view(2, numbers)
    if numbers > channels * height * width:
        with pytest.raises(ValueError, match="does not fit"):
            repeat_padded(vector, frame)
        return
    torch.testing.assert_close(averaged(repeat_padded(vector, frame), numbers), vector)


def test_a_number_fills_its_frame_and_comes_back_as_the_mean() -> None:
    numbers = torch.tensor([[0.5, -1.0]])
    frames = broadcast(numbers, (3, 2, 2))
    assert frames.shape == (1, 2, 3, 2, 2)
    assert (frames[0, 1] == -1.0).all()
    assert torch.equal(mean_of(frames), numbers)
