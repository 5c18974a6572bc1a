"""A serving target: the merged weights, in one file for programs of one's own."""

from pathlib import Path

from jointsearch.export.serving import ServingTarget, register_serving_target


class Weights(ServingTarget):
    name = "weights"
    description = "the merged weights in one safetensors file"
    runtime = ("safetensors",)
    tolerance = 0.0
    usage = "`safetensors.torch.load_file('{folder}/weights.safetensors')`"

    def write(self, run, folder: Path) -> None:
        from safetensors.torch import save_model

        save_model(run.merged(), folder / "weights.safetensors")

    def load(self, folder: Path, run):
        from safetensors.torch import load_model

        model = run.merged()
        for parameter in model.parameters():
            parameter.data.zero_()
        load_model(model, folder / "weights.safetensors")
        return model

    def expected(self, run):
        return run.merged()


register_serving_target(Weights())
