"""The fields for an API key and for a rater's name, the same on every page.

The browser keeps them for as long as its tab is open, so that they are entered once for all
pages, and nothing of them stays on the disk.
"""

import json
from typing import Any

import gradio as gr

from ui.gateway import Gateway


def key_field(gateway: Gateway) -> gr.Textbox:
    """Lay the field out in the current Blocks; hidden where the server brings a key."""
    return _field("API key", "key", type="password", visible=not gateway.has_key, max_length=200)


def name_field() -> gr.Textbox:
    """Who rates, on a gateway without keys."""
    return _field("Your name", "name", max_length=64, placeholder="on a server without keys")


def recall(*fields: gr.Textbox) -> Any:
    """Fill the fields in when the page opens; `.then` of the result follows."""
    page = gr.context.Context.root_block
    if page is None:
        raise RuntimeError("a page must be laid out inside Blocks")
    names = json.dumps([f"safechat-{field.elem_id}" for field in fields])
    js = f"() => {{ const v = {names}.map((n) => sessionStorage.getItem(n) || ''); return "
    js += "v; }" if len(fields) > 1 else "v[0]; }"
    return page.load(None, None, list(fields), js=js, api_visibility="private")


def _field(label: str, name: str, **look: Any) -> gr.Textbox:
    field: gr.Textbox = gr.Textbox("", label=label, elem_id=name, **look)
    kept = f"(said) => {{ sessionStorage.setItem('safechat-{name}', said); return said; }}"
    field.change(None, [field], None, js=kept, api_visibility="private")
    return field
