"""The page: its controls, and which function each of them calls."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ListFiles

from sgllie.demo import words
from sgllie.demo.actions import Actions, Shown, Taken
from sgllie.demo.choice import BUNDLED, Choice
from sgllie.demo.settings import DemoSettings
from sgllie.methods import METHODS

FOLDER = Path(str(files("sgllie.demo")))
STYLE = FOLDER / "page.css"
SAMPLES_FOLDER = FOLDER / "samples"
SAMPLES = {"coffee.jpg": "Sample: a cup of coffee", "rocket.jpg": "Sample: a rocket launch"}
"""File names of what is tried where there is no photograph at hand; copies of those in samples/ of the repository."""
LARGEST_SCALE = 32
DIVIDE = "(share) => ({__type__: 'update', slider_position: share})"
"""Moves the line between the two pictures, in the browser: the component itself knows no keys."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

THEME = gr.themes.Base(
    primary_hue="amber",
    neutral_hue="stone",
    # No fonts but those that the machine has: the page asks nobody for anything.
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(button_primary_text_color="#1c1917", button_primary_text_color_dark="#1c1917")


class Page:
    """The components of the page.

    Args:
        settings: of the page.
        actions: its functions.
    """

    def __init__(self, settings: DemoSettings, actions: Actions) -> None:
        self.settings, self.actions = settings, actions
        with gr.Blocks(title="sgllie", analytics_enabled=False) as self.blocks:
            gr.HTML("<h1>Brighten dark photographs</h1>")
            self._add_input()
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=300):
                    self._add_pictures()
                with gr.Column(scale=2, min_width=300):
                    self._add_controls()
            self._add_results()
            with gr.Row(equal_height=False):
                self._add_measures()
            self._connect()
        self.blocks.queue(default_concurrency_limit=None)

    def _add_input(self) -> None:
        with gr.Row(equal_height=True):
            self.drop = gr.File(
                label="Photographs, or a short clip",
                file_count="multiple",
                height=140,
                scale=3,
                min_width=300,
                elem_id="drop",
            )
            # Gradio's own would leave an empty file in the folder of uploads for each file that is dropped.
            self.drop.preprocess = paths_of  # type: ignore[method-assign, assignment]
            with gr.Column(scale=2, min_width=300):
                self.samples = {
                    SAMPLES_FOLDER / name: gr.Button(label, icon=str(SAMPLES_FOLDER / name), elem_classes="sample")
                    for name, label in SAMPLES.items()
                }
        live = '<div role="status" aria-live="polite">${value}</div>'
        self.status = gr.HTML(words.WELCOME, html_template=live, elem_id="status")
        with gr.Row(visible=False, equal_height=True) as self.several:
            self.names = gr.Radio([], label="Shown", scale=4, min_width=300, elem_id="names")
            self.clear = gr.Button("Remove all", scale=1, min_width=120)

    def _add_pictures(self) -> None:
        self.pictures = gr.ImageSlider(
            label="Before and after", interactive=False, buttons=["fullscreen"], max_height=620, elem_id="pictures"
        )
        self.divider = gr.Slider(
            0, 100, 50, step=1, label="Line between before and after, %", buttons=[], elem_id="divider"
        )

    def _add_controls(self) -> None:
        methods = [
            name for name, info in METHODS.items() if name == "sgz" or not info.takes_weights or self.settings.weights
        ]
        default = Choice()
        self.strength = gr.Slider(
            0, 1, default.strength, step=0.01, label="Strength", info="0 nothing, 1 the full effect", elem_id="strength"
        )
        self.method = gr.Dropdown(list(methods), value=default.method, label="Method", elem_id="method")
        self.weights = gr.Dropdown([BUNDLED, *self.settings.weights], value=BUNDLED, label="Weights", elem_id="weights")
        self.scale = gr.Slider(
            1,
            LARGEST_SCALE,
            default.scale_factor,
            step=1,
            label="Scale factor",
            info="For sgz and zero-dce: the network sees one sample of each block with this many pixels a side",
            elem_id="scale",
        )
        self.darker = gr.Slider(
            0,
            1,
            default.only_darker_than,
            step=0.01,
            label="Only darker than",
            info="Photographs with this mean luma or more are copied; at 1 none is",
            elem_id="darker",
        )
        self.denoise = gr.Checkbox(
            default.denoise, label="Denoise", info="sgz and zero-dce: noise is not amplified", elem_id="denoise"
        )

    def _add_results(self) -> None:
        with gr.Row():
            self.make = gr.Button("Make the files at full size", variant="primary", min_width=200, elem_id="make")
            self.download = gr.DownloadButton("Download", visible=False, variant="primary", elem_id="download")
            self.ask = gr.Button("Show the command for a folder", min_width=200, elem_id="ask")
        self.command = gr.Textbox(
            Choice().command(clips=False),
            label="The same for a folder of any size",
            lines=2,
            buttons=["copy"],
            interactive=False,
            visible=False,
            elem_id="command",
        )

    def _add_measures(self) -> None:
        with gr.Column(scale=3, min_width=300):
            self.facts = gr.HTML(elem_id="facts")
            self.chart = gr.HTML(elem_id="chart")
        with gr.Column(scale=2, min_width=300):
            self.factor = gr.Image(label="Factor map", interactive=False, buttons=[], visible=False, elem_id="factor")
            self.caption = gr.HTML(elem_id="caption")

    def _connect(self) -> None:
        """Tie the functions to the controls."""
        actions = self.actions
        slow = [self.names, self.method, self.weights, self.denoise]
        choice = [self.method, self.weights, self.scale, self.strength, self.darker, self.denoise]
        self.controls: list[Any] = [self.names, *choice]
        self.shown = [getattr(self, name) for name in Shown._fields]
        taken = [getattr(self, name) for name in Taken._fields]
        self._then_show(self.drop.upload(actions.take, self.drop, taken, **PRIVATE))
        for path, button in self.samples.items():
            self._then_show(button.click(actions.sample(path), None, taken, **QUIET))
        self.clear.click(actions.remove_all, None, [self.drop, self.names, self.several, *self.shown], **QUIET)
        for control in self.controls:
            event = control.input(
                actions.show,
                self.controls,
                self.shown,
                trigger_mode="always_last",
                show_progress="minimal" if control in slow else "hidden",
                show_progress_on=self.pictures,
                **PRIVATE,
            )
            self._then_measure(event)
        self.divider.input(None, self.divider, self.pictures, js=DIVIDE, **QUIET)
        made = [self.download, self.status]
        self.make.click(actions.enhance, self.controls, made, show_progress_on=self.make, **PRIVATE)
        self.ask.click(lambda: gr.Textbox(visible=True), None, self.command, **QUIET)
        self.blocks.unload(actions.leave)

    def _then_show(self, event: Any) -> None:
        """Show and measure once an event is over."""
        shown = event.then(self.actions.show, self.controls, self.shown, show_progress_on=self.pictures, **PRIVATE)
        self._then_measure(shown)

    def _then_measure(self, event: Any) -> None:
        """Measure once an event is over; each of several in a row, since only the last one waits until it is quiet."""
        event.then(self.actions.measure, self.controls, self.facts, trigger_mode="multiple", **QUIET)


def paths_of(uploads: ListFiles | None) -> list[str]:
    """Return where the files lie that the browser has sent."""
    return [upload.path for upload in uploads or []]
