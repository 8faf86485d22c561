"""Measures the exported classifier: python -m flywheel.training.measure_labels --guard DIR

Everything is labelled by the served graphs. Refusals are measured on replies of real models
labelled by two annotators, or three (the test part of contrast/refusal_labels.jsonl), hazards on
the test rows of catqa and do-not-answer and, for HarmBench, on its red-team rows. --guard is the
folder of all exported models: its classifier is measured as it serves, and with its judges the
flag of suspected false refusals. --model measures one classifier by itself.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import (
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from flywheel.training.data import Row, rows, user
from flywheel.training.labelled import CONTRAST, Labelled, labelled_hazards, labelled_replies
from guard.hazards import Hazard
from guard.refusal import suspect_reply
from guard.reward.cascade import Cascade, load_cascade
from guard.reward.labels import KINDS, EmbeddedClassifier
from guard.reward.load import load_classifier
from guard.types import Classifier, Flag, RefusalKind, Sample

Figures = dict[str, Any]
DRAWS = 1000
EVEN = 0.5  # the safety below which a prompt is flagged
UNKNOWN = {"hh-harmless"}
REFUSES = {str(kind) for kind in RefusalKind if kind.refuses}  # "none": cannot be told
# What most training rows of a category are about.
CATEGORIES = {
    "Adult Content": Hazard.SEXUAL_CONTENT,
    "Child Abuse": Hazard.VIOLENT_CRIMES,
    "Economic Harm": Hazard.NONVIOLENT_CRIMES,
    "Fraud/Deception": Hazard.NONVIOLENT_CRIMES,
    "Hate/Harass/Violence": Hazard.HATE,
    "Illegal Activity": Hazard.NONVIOLENT_CRIMES,
    "Malware Viruses": Hazard.MALWARE,
    "Physical Harm": Hazard.VIOLENT_CRIMES,
    "Political Campaigning": Hazard.NONVIOLENT_CRIMES,
    "Privacy Violation Activity": Hazard.PRIVACY,
    "Tailored Financial Advice": Hazard.NONVIOLENT_CRIMES,
    "chemical_biological": Hazard.WEAPONS,
    "cybercrime_intrusion": Hazard.MALWARE,
    "harassment_bullying": Hazard.HARASSMENT,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="one exported classifier")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--guard", type=Path, help="all exported models: measure the flag too")
    parser.add_argument("--part", default="test", choices=["dev", "test"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    if not (options.model or options.guard):
        parser.error("give --guard, --model or both")
    model: Classifier = (
        EmbeddedClassifier(options.model, options.threads)
        if options.model
        else load_classifier(options.guard, options.threads)
    )
    replies = labelled_replies(options.data, options.part)
    at_random = [e for e in replies if e.random]
    figures: Figures = {
        "model": model.model_id,
        "part": options.part,
        "agreement": agreement(options.part),
        "refusals": refusals(model, replies),
        "refusals at random": refusals(model, at_random) if at_random else None,
        "hazards": hazards(model, labelled_hazards(options.data, options.part)),
        "categories": categories(model, options.data, options.part),
    }
    if options.guard:
        judges = load_cascade(options.guard, options.threads)
        figures["flag"] = {
            "all": suspicions(judges, model, replies),
            "at random": suspicions(judges, model, at_random) if at_random else None,
        }
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def agreement(part: str) -> Figures:
    """How well the first two of a part's annotators agree: Cohen's kappa and Gwet's AC1."""
    table = [r for r in rows(CONTRAST / "refusal_labels.jsonl") if r["part"] == part]
    kinds = [(r["first"], r["second"]) for r in table if "second" in r]
    refuses = [(a in REFUSES, b in REFUSES) for a, b in kinds]
    return {"n": len(kinds), "kinds": _agree(kinds), "refuses": _agree(refuses)}


def _agree(pairs: Sequence[tuple[object, object]]) -> Figures:
    first, second = [str(a) for a, _ in pairs], [str(b) for _, b in pairs]
    share = np.array([n / (2 * len(pairs)) for n in Counter(first + second).values()])
    chance = float((share * (1 - share)).sum() / (len(share) - 1))
    agreed = float(np.mean([a == b for a, b in pairs]))
    kappa = float(cohen_kappa_score(first, second))
    return {"agreed": agreed, "kappa": kappa, "ac1": (agreed - chance) / (1 - chance)}


def refusals(model: Classifier, examples: list[Labelled]) -> Figures:
    """F1 of refusing against not, of each kind, and of suspected false refusals."""
    found = [label.refusal for label in model.label([e.sample for e in examples])]
    gold = [e.kind for e in examples]
    refused = np.array([bool(k and k.refuses) for k in gold])
    flagged = np.array([bool(k and k.refuses) for k in found])
    harmless = np.array([e.harmless for e in examples])
    group = np.unique(
        [str(e.sample.conversation[0].text[-60:]) for e in examples], return_inverse=True
    )[1]
    names = [str(kind) for kind in KINDS]
    return {
        "n": len(examples),
        "kinds": dict(Counter(str(k) for k in gold)),
        "refuses": _binary(refused, flagged, group),
        "false_refusals": _binary(refused[harmless], flagged[harmless], group[harmless]),
        "per_kind": _per_class([str(k) for k in gold], [str(k) for k in found], names),
        "confusion": confusion_matrix(
            [str(k) for k in gold], [str(k) for k in found], labels=names
        ).tolist(),
        "by_source": {
            source: _binary(
                *(x[[e.source == source for e in examples]] for x in (refused, flagged, group))
            )
            for source in sorted({e.source for e in examples})
        },
    }


def suspicions(judges: Cascade, model: Classifier, examples: list[Labelled]) -> Figures:
    """The flag of suspected false refusals, as it serves: right where a harmless request is
    refused. HH-RLHF's harmless pairs are left out: nobody says which of their requests are."""
    kept = [e for e in examples if e.harmless or e.source not in UNKNOWN]
    safety = [s.value for s in judges.score([Sample(e.sample.conversation) for e in kept])]
    labels = model.label([e.sample for e in kept])
    flagged = [
        suspect_reply({Flag.UNSAFE_PROMPT} if s < EVEN else set(), s, label) is not None
        for s, label in zip(safety, labels, strict=True)
    ]
    right = [e.harmless and bool(e.kind and e.kind.refuses) for e in kept]
    group = [str(e.sample.conversation[0].text[-60:]) for e in kept]
    return _binary(np.array(right), np.array(flagged), np.unique(group, return_inverse=True)[1])


def _binary(
    gold: np.ndarray[Any, Any], found: np.ndarray[Any, Any], group: np.ndarray[Any, Any]
) -> Figures:
    """Precision, recall and F1 with 95 % bootstrap intervals over questions."""
    chance = np.random.default_rng(0)
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    draws = [
        _prf(gold[i], found[i])
        for i in (
            np.concatenate([members[g] for g in chance.integers(0, len(members), len(members))])
            for _ in range(DRAWS)
        )
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    values = _prf(gold, found)
    names = ("precision", "recall", "f1")
    figures = {
        name: [round(float(x), 3) for x in interval]
        for name, *interval in zip(names, values, low, high, strict=True)
    }
    return {"n": len(gold), "positives": int(gold.sum()), **figures}


def _prf(gold: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    hits = float((gold & found).sum())
    precision = hits / float(found.sum()) if found.any() else float("nan")
    recall = hits / float(gold.sum()) if gold.any() else float("nan")
    both = float(found.sum() + gold.sum())
    return precision, recall, 2 * hits / both if both else float("nan")


def hazards(model: Classifier, examples: list[Labelled]) -> Figures:
    """Per hazard, on rows labelled one by one; macro F1 over the hazards that occur."""
    found = [label.hazard for label in model.label([e.sample for e in examples])]
    return _macro([str(e.hazard) for e in examples], [str(h) for h in found])


def categories(model: Classifier, data: Path, part: str) -> Figures:
    """The same on catqa and HarmBench by their own categories, mapped to a hazard each."""
    table = rows(data / "prompt_harm.jsonl")

    def measured(kept: list[Row]) -> Figures:
        labels = model.label([Sample(user(r["prompt"])) for r in kept])
        return _macro(
            [str(CATEGORIES[r["category"]]) for r in kept], [str(x.hazard) for x in labels]
        )

    known = [r for r in table if r["category"] in CATEGORIES]
    return {
        "catqa": measured([r for r in known if r["source"] == "catqa" and r["split"] == part]),
        "harmbench": measured([r for r in known if r["source"] == "harmbench"]),
    }


def _macro(gold: list[str], found: list[str]) -> Figures:
    names = sorted(set(gold))
    return {
        "n": len(gold),
        "accuracy": round(float(np.mean([g == f for g, f in zip(gold, found, strict=True)])), 3),
        "macro_f1": round(
            float(f1_score(gold, found, labels=names, average="macro", zero_division=0)), 3
        ),
        "per_class": _per_class(gold, found, names),
    }


def _per_class(gold: list[str], found: list[str], names: list[str]) -> Figures:
    table = precision_recall_fscore_support(gold, found, labels=names, zero_division=0)
    return {
        name: {"n": int(n), "precision": round(p, 3), "recall": round(r, 3), "f1": round(f, 3)}
        for name, p, r, f, n in zip(names, *(column.tolist() for column in table), strict=True)
    }


if __name__ == "__main__":
    main()
