import numpy as np
import torch

from worldvalue.backbones.scales import Scale, mean_known

ROWS = np.array([[0.0, 5.0, 7.0], [10.0, 5.0, -7.0], [2.0, 5.0, 0.0]])


def test_the_range_of_the_data_becomes_minus_one_to_one_and_comes_back() -> None:
    scale = Scale(3)
    scale.fit(ROWS)
    told = scale(torch.from_numpy(ROWS).float())
    expected = torch.tensor([[-1, 0, 1], [1, 0, -1], [-0.6, 0, 0]])  # a number that never changes stays in the middle
    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(scale.inverse(told), torch.from_numpy(ROWS).float())


def test_a_scale_is_kept_with_the_model_and_changes_nothing_before_it_is_fitted() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(Scale(3)(x), x)
    fitted, other = Scale(3), Scale(3)
    fitted.fit(ROWS)
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other(x), fitted(x))


def test_a_few_wild_numbers_need_not_press_all_others_together() -> None:
    rows = np.append(np.linspace(-1.0, 1.0, 201), [50.0])[:, None]
    whole, most = Scale(1), Scale(1)
    assert not whole.fitted
    whole.fit(rows)
    most.fit(rows, outside=0.01)
    assert whole.fitted
    assert whole.reach.item() == 25.5
    np.testing.assert_allclose(most.ends, np.quantile(rows, (0.01, 0.99)), rtol=1e-5)


def test_a_mean_leaves_out_what_is_not_known() -> None:
    errors = torch.tensor([[1.0, torch.inf], [3.0, 100.0]])
    known = torch.tensor([[True, False], [True, False]])
    assert mean_known(torch.where(known, errors, 7.0), known) == 2.0
    assert mean_known(errors.nan_to_num(), torch.zeros(2, 2, dtype=torch.bool)) == 0.0
