"""A strategy: the first and the last block at 16 bits, the rest at 4."""

from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.strategies.ranks import uniform_ranks
from jointsearch.strategies.registry import rule
from jointsearch.strategies.settings import StrategySettings


@rule("ends-16bit")
def ends_16bit(layout: ModelLayout, settings: StrategySettings, max_bytes: int | None) -> Plan:
    """The outermost blocks at 16 bits, the others at 4."""
    blocks = [spec.block for spec in layout.modules if spec.block]
    wanted = {spec.name: 16 if spec.block in (blocks[0], blocks[-1]) else 4 for spec in layout.modules}
    bits = settings.bits_of(layout, wanted)
    return settings.plan(layout, bits, uniform_ranks(layout, settings, settings.rank))
