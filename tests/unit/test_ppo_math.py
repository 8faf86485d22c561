"""The paper's reward and PPO's losses, against values worked out by hand."""

import math

import pytest
import torch

from flywheel.training.chat.ppo_math import (
    advantages,
    normalised,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from guard.combined import combined_reward, logit

ONES = torch.ones(1, 3)


def test_safety_decides_for_adversarial_prompts_and_below_fifteen_hundredths() -> None:
    assert combined_reward(0.6, 0.9, adversarial=True) == 0.6
    assert combined_reward(0.6, 0.9, adversarial=False) == 0.9
    assert combined_reward(0.15, 0.9, adversarial=False) == 0.9
    assert combined_reward(0.149, 0.9, adversarial=False) == 0.149


def test_the_reward_is_a_logit() -> None:
    assert logit(0.5) == 0.0
    assert logit(0.9) == pytest.approx(math.log(9))
    assert math.isfinite(logit(0.0))
    assert logit(1.0) == pytest.approx(-logit(0.0))


def test_whitening_gives_mean_zero_and_deviation_one() -> None:
    white = whiten(torch.tensor([1.0, 3.0]))
    assert white.tolist() == pytest.approx([-1.0, 1.0])
    assert whiten(torch.tensor([2.0, 2.0])).tolist() == [0.0, 0.0]


def test_the_kl_term_comes_off_after_whitening() -> None:
    """Ten times the reward changes nothing, and the KL term keeps its own scale."""
    logp, reference = torch.log(torch.tensor([[0.5, 0.5, 1.0]])), torch.zeros(1, 3)
    logp, reference = logp.repeat(2, 1), reference.repeat(2, 1)
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    for scale in (1.0, 10.0):
        scores = whiten(scale * torch.tensor([1.0, 3.0]))
        rewards = token_rewards(scores, logp, reference, mask, beta=0.1)
        kl = 0.1 * math.log(2)
        assert rewards[0].tolist() == pytest.approx([kl, kl - 1, 0.0])
        assert rewards[1].tolist() == pytest.approx([kl, kl, 1.0])


def test_advantages_without_discount_are_what_is_still_to_come() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.0, 9.0]])
    values = torch.tensor([[0.2, 0.4, 0.6], [0.1, 0.3, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    found, returns = advantages(rewards * mask, values * mask, mask, gamma=1.0, lam=1.0)
    assert found[0].tolist() == pytest.approx([0.8, 0.6, 0.4])
    assert found[1].tolist() == pytest.approx([0.4, -0.3, 0.0])
    assert returns[0].tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_lambda_mixes_one_step_errors() -> None:
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    found, _ = advantages(rewards, values, torch.ones(1, 2), gamma=1.0, lam=0.5)
    assert found[0].tolist() == pytest.approx([0.0 + 0.5 * 0.5, 0.5])


def test_normalised_advantages_leave_padding_out() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    assert normalised(torch.tensor([[1.0, 3.0, 99.0]]), mask)[0].tolist() == pytest.approx(
        [-1.0, 1.0, 0.0]
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.1, 1.0, -1.1), (1.5, 1.0, -1.2), (0.5, 1.0, -0.5), (0.5, -1.0, 0.8), (1.5, -1.0, 1.5)],
)
def test_the_ratio_is_clipped_at_two_tenths_where_that_is_worse(
    ratio: float, advantage: float, expected: float
) -> None:
    logp = torch.full((1, 3), math.log(ratio))
    loss = policy_loss(logp, torch.zeros(1, 3), torch.full((1, 3), advantage), ONES, clip=0.2)
    assert loss.item() == pytest.approx(expected)


def test_values_are_held_near_what_they_were() -> None:
    values, old, returns = (torch.tensor([[x]]) for x in (1.0, 0.0, 1.0))
    loss = value_loss(values, old, returns, torch.ones(1, 1), clip=0.2)
    assert loss.item() == pytest.approx(0.5 * 0.8**2)
