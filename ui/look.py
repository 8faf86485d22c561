"""How every page looks: theme and style sheets. Nothing is fetched from outside."""

from pathlib import Path

import gradio as gr

THEME = gr.themes.Base(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    radius_size="lg",
    font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
    font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    block_border_width="0px",
    block_shadow="none",
    input_border_color="*neutral_200",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
)

_ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> str:
    """Text of a style sheet or script that is shipped with the pages."""
    return (_ASSETS / name).read_text(encoding="utf-8")


_STYLE = "\n".join(asset(f"{name}.css") for name in ("base", "chat", "review", "operations"))
HEAD = f"<style>{_STYLE}</style>"
"""Not by Gradio's `css`, which confines media queries and arrives after the first paint."""
