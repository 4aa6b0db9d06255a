"""Takes the pictures of the page in docs/images, with a scripted model and the ComfyUI of the tests.

.venv/bin/python scripts/screenshots.py
"""

import asyncio
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.async_api import Browser, Page, async_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "backend"))

from tests.client import Service  # noqa: E402
from tests.comfyui import fake  # noqa: E402
from tests.comfyui.frontend import VERSIONS, ComfyUIWithFrontend, files  # noqa: E402
from tests.comfyui.test_graph import add_and_connect  # noqa: E402
from tests.integration.conftest import TOKEN, serve, settings_for  # noqa: E402
from tests.page.conftest import DESKTOP, PHONE, say  # noqa: E402
from tests.upstream import Upstream  # noqa: E402

FOLDER = ROOT / "docs" / "images"
ANSWER = """\
Here is your workflow: a checkpoint, two prompts, an empty latent of **512 × 512**, a `KSampler` with 24 steps, and the picture.

| Setting | Value | Why |
|---|---|---|
| sampler | `euler` | quick and steady |
| cfg | 7 | follows the prompt without burning |

The noise is taken away step by step, $x_{t-1} = x_t - \\sigma_t\\,\\epsilon_\\theta(x_t, t)$. Shall I make it wider?
"""


def fox() -> bytes:
    """A picture, so that something is to be seen."""
    image = Image.new("RGB", (512, 320))
    draw = ImageDraw.Draw(image)
    for y in range(320):
        draw.line([(0, y), (512, y)], fill=(30 + y // 4, 60 + y // 3, 120 + y // 5))
    draw.polygon([(0, 320), (0, 230), (140, 170), (300, 240), (512, 190), (512, 320)], fill=(236, 240, 245))
    draw.polygon([(206, 190), (236, 120), (262, 190)], fill=(212, 106, 42))
    draw.polygon([(256, 190), (284, 120), (312, 190)], fill=(212, 106, 42))
    draw.ellipse([200, 160, 318, 262], fill=(222, 118, 50))
    draw.polygon([(222, 222), (296, 222), (259, 272)], fill=(250, 244, 238))
    for x in (234, 276):
        draw.ellipse([x, 192, x + 11, 205], fill=(30, 25, 22))
    draw.ellipse([252, 258, 266, 270], fill=(30, 25, 22))
    made = io.BytesIO()
    image.save(made, "PNG")
    return made.getvalue()


def build(upstream: Upstream) -> None:
    """Have the model build a workflow and run it."""
    add_and_connect(upstream)
    upstream.calls(
        ("text", "fillPromptNode", '{"nodeId": 2, "text": "a fox in the snow, evening light"}'),
        ("steps", "setNodeWidgetValue", '{"nodeId": 5, "widgetName": "steps", "value": 24}'),
        ("run", "executeWorkflow", "{}"),
    )
    upstream.says(*ANSWER.splitlines(keepends=True))


async def page_of(browser: Browser, service: Service, **options: object) -> Page:
    """The page, logged in."""
    context = await browser.new_context(**{"viewport": DESKTOP, **options})  # pyright: ignore
    page = await context.new_page()
    await page.goto(f"{service.url}/?token={TOKEN}")
    return page


async def take(page: Page, name: str) -> None:
    """Keep what is to be seen, with few colours: the files stay small."""
    await page.wait_for_timeout(600)
    picture = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
    picture.quantize(200).save(FOLDER / f"{name}.png", optimize=True)


async def main() -> None:
    """Take them all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    fake.PNG = fox()
    folder = Path(tempfile.mkdtemp())
    for name in ("config", "workflows"):
        shutil.copytree(ROOT / name, folder / name)
    version = VERSIONS[-1]
    static = files(version)
    assert static is not None, f"comfyui-frontend-package {version} is missing: .ci/run says where it is put"
    comfyui = ComfyUIWithFrontend(version, static)
    comfyui.settings["Comfy.ColorPalette"] = "dark"
    comfyui.output_bytes = len(fake.PNG)
    upstream = Upstream()
    await upstream.start()
    await comfyui.start()
    settings = settings_for(folder, upstream, comfyui_url=comfyui.url, allowed_origins=[comfyui.url])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    async with serve(settings) as service, async_playwright() as playwright:
        comfyui.settings |= {"Atelier.Url": service.url, "Atelier.Token": TOKEN}
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await page_of(browser, service)
        for title in ("Names for a bakery", "What is a LoRA?", "A poem about rain"):
            await page.get_by_role("button", name="New conversation").click()
            await say(page, title)
            await page.get_by_text(f"You said: {title}").wait_for()
        await page.get_by_role("button", name="New conversation").click()
        build(upstream)
        await say(page, "Build a text-to-image workflow with a KSampler, and draw a fox")
        await page.get_by_text("Shall I make it wider?").wait_for()
        await take(page, "answer")
        await page.get_by_role("button", name="Workflow", exact=True).click()
        await take(page, "workflow")
        await page.keyboard.press("Escape")
        state = await page.context.storage_state()
        phone = await browser.new_page(viewport=PHONE, color_scheme="dark", storage_state=state)  # pyright: ignore
        await phone.goto(page.url)
        await phone.get_by_text("Shall I make it wider?").wait_for()
        await take(phone, "phone-dark")
        await page.get_by_role("textbox", name="Message").fill("/")
        await take(page, "commands")
        tab = await browser.new_page(viewport={"width": 1500, "height": 860})
        await tab.goto(comfyui.url)
        opener = tab.get_by_role("button", name="Atelier: build and run workflows by talking")
        await opener.wait_for(timeout=60_000)
        await tab.keyboard.press("Escape")
        await tab.evaluate("window.app.graph.clear()")
        await opener.click()
        build(upstream)
        await say(tab, "Build a text-to-image workflow with a KSampler, and draw a fox")
        await tab.get_by_text("Shall I make it wider?").wait_for(timeout=60_000)
        await tab.evaluate("""() => {
            const places = { 1: [560, 120], 2: [900, 90], 3: [900, 330], 4: [900, 570], 5: [1340, 120], 6: [1720, 120], 7: [1720, 260] };
            for (const node of app.graph.nodes) node.pos = places[node.id] ?? node.pos;
            app.canvas.ds.scale = 0.62; app.canvas.ds.offset = [330, 130]; app.graph.setDirtyCanvas(true, true);
        }""")
        await take(tab, "comfyui-tab")
        await browser.close()
    await comfyui.stop()
    await upstream.stop()


asyncio.run(main())
