"""Compare two recipes over the same seeds and print the paired interval, with the public API only.

python examples/one_file.py     # 2 arms x 5 seeds on bundled images, about 20 s on two CPU cores

Run it again: it trains nothing, because the trials are kept under runs/.
"""

from __future__ import annotations

import harness

STUDY = {
    "name": "one-file",
    "question": "Does random crop help on 300 images?",
    "margin_pp": 2.0,  # smaller differences are not worth acting on
    "seeds": 5,
    # any recipe field may differ: `harness show fields` lists them
    "arms": [{"name": "no-crop", "set": {"augment.crop": 0}}],
}


def main() -> None:
    """Train the trials that are not there yet, and print each arm's difference to the reference."""
    study = harness.Study.model_validate(STUDY)
    outcome = harness.ablate(study, profile="quick", workers=2)
    if outcome.report is None:
        raise SystemExit("there is no report: run this again to go on")

    analysis = harness.read_analysis(outcome.report.parent)
    for effect in analysis.effects:
        if effect.kind == "arm" and effect.metric in {"accuracy", "gap"}:
            print(
                f"{effect.term} - {effect.reference}, {effect.metric}: {effect.estimate:+.2f} pp "
                f"[{effect.low:+.2f}, {effect.high:+.2f}], 95 % t, n = {effect.n} pairs"
                + (f", {effect.verdict}" if effect.verdict else "")
            )

    print(f"\n{outcome.answer}\n\nreport: {outcome.report}")


if __name__ == "__main__":
    main()
