"""The mathematics of PPO with the paper's reward, on tensors of shape (batch, reply tokens).

Touvron et al. 2023, §3.2.3, for the reward; Schulman et al., "Proximal policy optimization
algorithms", 2017, for the losses; Schulman et al., "High-dimensional continuous control using
generalized advantage estimation", 2016, for the advantages. mask: 1 where a token is the
reply's, its end included, and 0 on padding behind it.
"""

import torch
from torch import Tensor


def whiten(scores: Tensor, over: Tensor | None = None) -> Tensor:
    """Mean 0 and standard deviation 1 over the batch; shape (batch,), all zeros if all equal.

    over: the scores of all devices, where `scores` are those of one.

    The paper whitens the logit of the combined reward, before the KL term is taken off: that
    keeps reward and penalty in proportion, whatever scale the reward models have.
    """
    over = scores if over is None else over
    return (scores - over.mean()) / (over.std(unbiased=False) + 1e-8)


def token_rewards(
    scores: Tensor, logp: Tensor, reference: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """R = whitened score at the last token, less beta times the KL estimate at every token.

    scores: (batch,), whitened. logp, reference: log-probabilities of the sampled tokens.
    """
    rewards = -beta * (logp - reference) * mask
    last = mask.sum(dim=1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates, and the returns that the value head should learn."""
    found = torch.zeros_like(rewards)
    following = torch.zeros(len(rewards), device=rewards.device)
    value_after = torch.zeros_like(following)
    for step in reversed(range(rewards.shape[1])):
        alive = mask[:, step]
        delta = rewards[:, step] + gamma * value_after - values[:, step]
        # Behind a reply's end nothing follows: both carries are zero until its last token.
        following = (delta + gamma * lam * following) * alive
        value_after = values[:, step] * alive
        found[:, step] = following
    return found, (found + values) * mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()


def normalised(values: Tensor, mask: Tensor) -> Tensor:
    """Advantages with mean 0 and variance 1 over all tokens of the batch."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def policy_loss(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, clip: float) -> Tensor:
    """The clipped surrogate: no gain from moving a token's ratio out of [1 - clip, 1 + clip]."""
    ratio = torch.exp(logp - old)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(-torch.minimum(ratio * advantage, clipped * advantage), mask)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error, values held within `clip` of what they were at sampling."""
    held = old + (values - old).clamp(-clip, clip)
    worst = torch.maximum((values - returns) ** 2, (held - returns) ** 2)
    return 0.5 * masked_mean(worst, mask)
