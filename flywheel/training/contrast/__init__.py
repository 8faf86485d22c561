"""Requests in twins: a harmful one and a harmless one of the same style and wording.

A detector trained on public request lists learns how harmful questions are phrased there,
not what they ask for. Here both classes come in every style, and every frightening verb has
harmless objects. The package holds

    handwritten.jsonl   requests and statements, most of them in twins
    compounds.jsonl     compounds such as "bath bomb", and harmful twins
    prose.jsonl         long texts, odd questions and statements
    languages.jsonl     the same idea in five languages
    *_labels.jsonl      labels of other people's texts, by digest
    hazards.yaml        harmful texts by hazard
    other *.yaml        frames and fillers, from which `python -m flywheel.training.contrast`
                        makes as many rows as are wanted
    generated.jsonl     6,000 of those, made with its default options
    replies/            how assistants refuse, refuse in part, cannot help, or comply

Harmful rows ask; none of them answers.
"""
