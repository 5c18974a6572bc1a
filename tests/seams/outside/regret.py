"""Two objectives: a quality that follows from what every task measures, and a cost."""

from jointsearch.front.objectives import Objective, register_objective

register_objective(
    Objective("regret", "minimize", "loss above 1.8", measure=lambda found: found.metrics["loss"] - 1.8)
)
register_objective(
    Objective(
        "kilo_parameters",
        "minimize",
        "trained parameters",
        True,
        measure=lambda m: m.trainable_parameters / 1000,
    )
)
