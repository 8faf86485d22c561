"""Two classifiers, a quick one for every sample and a larger one for replies that may decline.

The first names the hazard and how a reply answers. Where its probability that a reply declines
is not below a band, chosen on `dev` and kept in its model.json as `doubt`, the second is asked as
well. Within the band both are heard alike: the geometric means of their probabilities, made to
add up to 1. Above it the first's word stands. Wherever both were asked, `Labels.disputed` says
if they disagree: nobody calls a refusal false on the word of one. The larger body tells a lack of
ability from a refusal better, and takes five times as long.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from guard.reward.cascade import Band
from guard.types import Classifier, Labels, RefusalKind, Sample, finished

_EVEN = 0.5


@dataclass(frozen=True, slots=True)
class LabelCascade:
    """A classifier of two. Safe to call from several threads if both are.

    doubt: the first's probabilities of declining at which both decide.
    """

    first: Classifier
    second: Classifier
    doubt: Band

    @property
    def model_id(self) -> str:
        return f"{self.first.model_id}+{self.second.model_id}"

    def label(self, samples: Sequence[Sample]) -> list[Labels]:
        """The labels of each sample, in order, untouched by the other samples of the call."""
        return [finished(self.steps(sample)) for sample in samples]

    def steps(self, sample: Sample) -> Generator[None, None, Labels]:
        """The same for one sample, with a pause between the two."""
        (labels,) = self.first.label([sample])
        if not labels.refusals or labels.declined < self.doubt.low:
            return labels
        yield
        (second,) = self.second.label([sample])
        both = _heard_alike(labels.refusals, second.refusals)
        return replace(
            labels,
            refusals=both if labels.declined in self.doubt else labels.refusals,
            model=self.model_id,
            disputed=(labels.declined < _EVEN) != (second.declined < _EVEN),
        )


def _heard_alike(
    first: Mapping[RefusalKind, float], second: Mapping[RefusalKind, float]
) -> dict[RefusalKind, float]:
    means = {kind: (p * second[kind]) ** 0.5 for kind, p in first.items()}
    total = sum(means.values())
    return {kind: mean / total for kind, mean in means.items()}
