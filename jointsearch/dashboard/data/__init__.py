"""What the pages and figures show, as plain tables made from a study. No Plotly, no Dash, no torch.

Bytes are those of the saved checkpoint and adapter; seconds are wall time; a loss is in nats.
"""
