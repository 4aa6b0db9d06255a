"""What people do on the page."""

import asyncio
import io
from collections.abc import Awaitable

import orjson
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.async_api import FilePayload, Page, expect

from app.settings import CustomProvider
from tests.comfyui.fake import PNG, FakeComfyUI
from tests.integration.conftest import TOKEN, Start
from tests.page.conftest import DESKTOP, PHONE, Open, Watch, say
from tests.upstream import Answer, Upstream, paused


def answers(page: Page):
    return page.get_by_label("Atelier", exact=True)


async def test_from_the_first_visit_to_the_first_answer(start: Start, open_page: Open, watch: Watch):
    service = await start(openai_base_url=None, openai_api_key=None, default_model=None)
    page = await open_page(service)
    await page.get_by_role("button", name="Go on with the demo model").click()
    await page.get_by_role("button", name="17 times 23").click()
    await expect(answers(page)).to_contain_text("391")
    await expect(page.get_by_role("navigation").get_by_role("link")).to_have_count(1)
    assert watch.hosts == {"127.0.0.1"}


async def test_an_answer_streams_and_a_reload_in_the_middle_goes_on(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    gate = asyncio.Event()
    upstream.script(paused(gate, "The first half, ", "and the second."))
    page = await open_page(service)
    await say(page, "Go on")
    await expect(answers(page)).to_contain_text("The first half,")
    await page.reload()
    await expect(answers(page)).to_contain_text("The first half,")
    gate.set()
    await expect(answers(page)).to_contain_text("The first half, and the second.")
    await expect(answers(page)).to_have_count(1)
    await expect(page.get_by_text("10 in · 5 out")).to_be_visible()


async def test_one_sign_says_that_the_answer_is_on_its_way(start: Start, upstream: Upstream, open_page: Open):
    async def waits(answer: Answer) -> None:
        await gate.wait()
        await answer.say("Here.")

    gate = asyncio.Event()
    service = await start()
    upstream.script(waits)
    page = await open_page(service)
    await say(page, "Go on")
    await expect(page.locator(".dots")).to_have_count(1)
    await page.reload()
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await expect(page.locator(".dots")).to_have_count(1)
    gate.set()
    await expect(answers(page)).to_contain_text("Here.")
    await expect(page.locator(".dots")).to_have_count(0)


async def test_notices_leave_the_foot_of_the_list_and_the_input_free(start: Start, open_page: Open):
    service = await start()
    for size in (DESKTOP, PHONE):
        page = await open_page(service, viewport=size)
        await say(page, "/rename Too early")
        notice = await page.get_by_text("There is nothing in this conversation yet.").locator("..").bounding_box()
        place = await page.locator(".composer").bounding_box()
        assert notice
        assert place
        assert notice["y"] + notice["height"] < place["y"]


async def test_only_with_comfyui_are_there_workflows(start: Start, upstream: Upstream, open_page: Open):
    page = await open_page(await start())
    await say(page, "hello")
    await expect(answers(page)).to_contain_text("You said: hello")
    await expect(page.get_by_role("button", name="Context")).to_be_visible()
    await expect(page.get_by_role("button", name="Workflow")).to_be_hidden()


async def test_stop_keeps_what_there_is(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    upstream.script(paused(asyncio.Event(), "As far as this"))
    page = await open_page(service)
    await say(page, "Go on")
    await expect(answers(page)).to_contain_text("As far as this")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    await page.reload()
    await expect(answers(page)).to_contain_text("As far as this")
    await expect(page.get_by_text("stopped")).to_be_visible()


async def test_edit_makes_a_branch_and_the_arrows_go_between(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    page = await open_page(service)
    await say(page, "first thought")
    await expect(answers(page)).to_contain_text("You said: first thought")
    await page.get_by_role("button", name="Edit and send again").click()
    await page.get_by_role("textbox", name="Edit the message").fill("second thought")
    await page.keyboard.press("Enter")
    await expect(answers(page)).to_contain_text("You said: second thought")
    await expect(page.get_by_text("2/2")).to_be_visible()
    await page.get_by_role("button", name="Previous branch").click()
    await expect(answers(page)).to_contain_text("You said: first thought")
    await expect(page.get_by_text("1/2")).to_be_visible()


async def test_an_answer_is_given_again(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    upstream.says("One answer.")
    upstream.says("Another one.")
    page = await open_page(service)
    await say(page, "Say something")
    await expect(answers(page)).to_contain_text("One answer.")
    await page.get_by_role("button", name="Answer again").click()
    await expect(answers(page)).to_contain_text("Another one.")
    await expect(answers(page)).to_have_count(1)
    await expect(page.get_by_text("2/2")).to_be_visible()


async def test_who_says_something_else_instead_of_agreeing_is_answered(
    start: Start, upstream: Upstream, open_page: Open
):
    service = await start(tool_approval={"multiply": "ask"})
    page = await open_page(service)
    upstream.calls(("c1", "multiply", '{"a": 12, "b": 34}'))
    await say(page, "Multiply")
    await expect(page.get_by_label("Tool multiply: Needs your approval")).to_be_visible()
    await say(page, "Never mind")
    await expect(answers(page).last).to_contain_text("You said: Never mind")
    await expect(page.get_by_label("Tool multiply: Not run")).to_be_visible()
    upstream.calls(("c2", "multiply", '{"a": 12, "b": 34}'))
    await say(page, "Multiply again")
    await expect(page.get_by_label("Tool multiply: Needs your approval")).to_be_visible()
    await page.get_by_role("button", name="Stop", exact=True).click()
    await expect(page.get_by_label("Tool multiply: Needs your approval")).to_be_hidden()
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


async def test_a_tool_that_needs_approval_asks(start: Start, upstream: Upstream, open_page: Open):
    service = await start(tool_approval={"multiply": "ask"})
    upstream.calls(("call_1", "multiply", '{"a": 6, "b": 7}'))
    page = await open_page(service)
    await say(page, "Multiply")
    await expect(page.get_by_role("group", name="May multiply run?")).to_be_visible()
    await expect(page.get_by_role("img", name="The answer is on its way")).to_be_hidden()
    await expect(page.get_by_role("button", name="Answer again")).to_be_hidden()
    await page.reload()
    await page.get_by_role("button", name="Allow").click()
    await expect(page.get_by_label("Tool multiply: Done")).to_be_visible()
    await expect(answers(page).get_by_text("You said: 42")).to_be_visible()
    upstream.calls(("call_2", "multiply", '{"a": 1, "b": 1}'))
    await say(page, "And again")
    await page.get_by_label("Reason, for the model").fill("too easy")
    await page.get_by_role("button", name="Refuse").click()
    await expect(page.get_by_label("Tool multiply: Refused")).to_be_visible()
    await expect(answers(page).last).to_contain_text("too easy")


async def test_a_workflow_shows_its_progress_and_its_picture(
    start: Start, upstream: Upstream, example: None, comfyui: FakeComfyUI, open_page: Open
):
    service = await start(comfyui_url=comfyui.url)
    comfyui.hold, comfyui.sends_previews = asyncio.Event(), 1
    upstream.calls(("call_1", "example", orjson.dumps({"positive_prompt": "a fox"}).decode()))
    page = await open_page(service)
    await say(page, "Draw a fox")
    await expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    await expect(page.get_by_role("img", name="What there is so far")).to_be_visible()
    comfyui.hold.set()
    await expect(page.get_by_label("Tool example: Done")).to_be_visible()
    picture = page.get_by_role("button", name="Open the picture")
    await picture.click()
    viewer = page.get_by_role("dialog", name="Picture")
    assert await viewer.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    async with page.expect_download() as download:
        await viewer.get_by_role("link", name="Download").click()
    assert await (await download.value).path()
    await page.keyboard.press("Escape")
    await expect(viewer).to_be_hidden()
    await page.reload()
    await expect(page.get_by_role("button", name="Open the picture")).to_be_visible()


async def test_what_a_model_writes_stays_text(start: Start, upstream: Upstream, open_page: Open, watch: Watch):
    service = await start()
    upstream.says(
        "<script>document.title = 'owned'</script>\n\n<img src=x onerror=\"document.title = 'owned'\">\n\n"
        "[press me](javascript:document.title='owned') ![a picture](https://elsewhere.example/x.png)\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n\nThe end is $e = mc^2$."
    )
    page = await open_page(service)
    await say(page, "Be evil")
    answer = answers(page)
    await expect(answer.locator(".katex").first).to_be_visible()
    await expect(answer.get_by_role("table")).to_be_visible()
    await expect(answer).to_contain_text("<script>document.title = 'owned'</script>")
    await expect(answer).to_contain_text("press me")
    assert await answer.locator("script, img, [onerror], a[href^='javascript']").count() == 0
    await answer.get_by_role("button", name="Copy code").click()
    await expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.title() != "owned"
    assert watch.hosts == {"127.0.0.1"}


async def test_prices_stay_text_and_formulas_copy_as_source(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    said = "A coffee is $3 and a tea is $2; set $HOME/bin:$PATH.\n\nThe area is $a^2$."
    upstream.says(said)
    page = await open_page(service, permissions=["clipboard-read", "clipboard-write"])
    await say(page, "What does it cost?")
    await expect(answers(page).locator(".katex")).to_have_count(1)
    await expect(answers(page)).to_contain_text("A coffee is $3 and a tea is $2; set $HOME/bin:$PATH.")
    await answers(page).get_by_role("button", name="Copy", exact=True).click()
    assert await page.evaluate("navigator.clipboard.readText()") == said
    await answers(page).get_by_text("The area is").evaluate("line => getSelection().selectAllChildren(line)")
    await page.keyboard.press("Control+c")
    assert (await page.evaluate("navigator.clipboard.readText()")).strip() == "The area is $a^2$."


async def test_a_picture_is_attached_by_the_picker_and_by_pasting(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    page = await open_page(service)
    png = {"name": "dot.png", "mimeType": "image/png", "buffer": PNG}
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Attach files").click()
    await (await chooser.value).set_files(png)
    await expect(page.get_by_role("button", name="Remove dot.png")).to_be_visible()
    await page.get_by_role("textbox", name="Message").evaluate(
        """input => {
            const data = new DataTransfer();
            data.items.add(new File(["some notes"], "notes.txt", { type: "text/plain" }));
            input.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        }"""
    )
    await expect(page.get_by_role("button", name="Remove notes.txt")).to_be_visible()
    await say(page, "What is this?")
    await expect(answers(page)).to_contain_text("You said:")
    parts = upstream.requests[-1]["messages"][-1]["content"]
    pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert [url.partition(",")[0] for url in pictures] == ["data:image/png;base64"]
    assert any("some notes" in part.get("text", "") for part in parts)
    await page.reload()
    await expect(page.get_by_role("button", name="Open the picture")).to_be_visible()


def attaching(page: Page, way: str, *files: tuple[str, str, str]) -> Awaitable[None]:
    """Attach files (name, type, content) by the picker, by dropping or by pasting them."""
    script = """([way, files]) => {
        const data = new DataTransfer();
        for (const [name, type, content] of files) data.items.add(new File([content], name, { type }));
        if (way === "paste")
            document.querySelector("#composer").dispatchEvent(
                new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        else
            for (const kind of ["dragenter", "dragover", "drop"])
                document.querySelector(".dropzone").dispatchEvent(
                    new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""

    async def choose() -> None:
        if way != "choose":
            await page.evaluate(script, [way, files])
            return
        async with page.expect_file_chooser() as chooser:
            await page.get_by_role("button", name="Attach files").click()
        payloads = [FilePayload(name=name, mimeType=kind, buffer=text.encode()) for name, kind, text in files]
        await (await chooser.value).set_files(payloads)

    return choose()


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
async def test_text_files_are_chips_and_others_are_explained(
    start: Start, upstream: Upstream, open_page: Open, way: str
):
    service = await start()
    page = await open_page(service)
    await attaching(page, way, ("report.docx", "application/vnd.openxmlformats", "PK"))
    await expect(page.get_by_text("report.docx cannot be attached. Pictures")).to_be_visible()
    await attaching(page, way, ("fake.txt", "text/plain", "a\0b"), ("large.csv", "text/csv", "x" * 1_048_577))
    await expect(page.get_by_text("fake.txt is named like a text file, but is none.")).to_be_visible()
    await expect(page.get_by_text("large.csv is larger than 1 MB.")).to_be_visible()
    await expect(page.locator(".attachment")).to_have_count(0)
    code = "for i in range(3):\n    print(i)\n"
    # Browsers take `.ts` for a film, and know no type for most code.
    await attaching(page, way, ("loop.py", "", code), ("app.ts", "video/mp2t", "let x = 1;"))
    await expect(page.get_by_role("button", name="Remove loop.py")).to_be_visible()
    await say(page, "What does it do?")
    await expect(answers(page)).to_contain_text("You said:")
    expected = f'What does it do?\n\n<attachment name="loop.py">\n{code}\n</attachment>\n\n<attachment name="app.ts">'
    assert upstream.requests[-1]["messages"][-1]["content"].startswith(expected)
    you = page.get_by_label("You", exact=True)
    for _ in range(2):
        await expect(you.get_by_role("link", name="loop.py")).to_be_visible()
        await expect(you.locator(".bubble p")).to_have_text("What does it do?")
        await expect(you).not_to_contain_text("print(i)")
        await page.reload()
    async with page.expect_download() as download:
        await you.get_by_role("link", name="loop.py").click()
    assert (await (await download.value).path()).read_text() == code
    await expect(page.get_by_role("heading", name="What does it do?")).to_be_visible()
    await you.get_by_role("button", name="Edit and send again").click()
    await page.get_by_role("textbox", name="Edit the message").fill("And now?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("2/2")).to_be_visible()
    assert upstream.requests[-1]["messages"][-1]["content"] == (
        f'And now?\n\n<attachment name="loop.py">\n{code}\n</attachment>\n\n'
        '<attachment name="app.ts">\nlet x = 1;\n</attachment>'
    )


async def test_text_files_of_older_messages_are_chips(start: Start, open_page: Open):
    service = await start()
    old = "see files<attachment name=note.txt>\nfirst\n\nlast\n</attachment>"
    async with service.http() as http:
        document = {"messages": [{"role": "user", "content": old}, {"role": "assistant", "content": "Seen."}]}
        made = (await http.post("/api/conversations/import", json=document)).json()
    assert made["title"] == "see files"
    page = await open_page(service, f"/#{made['id']}")
    you = page.get_by_label("You", exact=True)
    await expect(you.get_by_role("link", name="note.txt")).to_be_visible()
    await expect(you.locator(".bubble p")).to_have_text("see files")


async def test_a_failed_turn_says_why_in_any_browser_and_is_tried_again(
    start: Start, upstream: Upstream, open_page: Open
):
    async def breaks(answer: Answer) -> None:
        await answer.delta(content="Half of ")
        await shown.wait()
        await answer.raw(b'data: {"error": {"message": "out of order", "code": 500}}\n\n')

    shown = asyncio.Event()
    service = await start()
    page = await open_page(service)
    upstream.refuses(401, {"message": "bad key"})
    await say(page, "first")
    await expect(page.get_by_role("alert")).to_contain_text("OPENAI_API_KEY")
    upstream.script(breaks)
    await say(page, "second")
    await expect(answers(page)).to_contain_text("Half of")
    shown.set()
    await expect(page.get_by_role("alert")).to_contain_text("out of order")
    there = await open_page(service, f"/#{page.url.partition('#')[2]}")
    ends = there.get_by_role("group", name="Not answered")
    await expect(ends).to_contain_text(["OPENAI_API_KEY", "out of order"])
    await expect(answers(there)).to_contain_text("Half of")
    await ends.last.get_by_role("button", name="Try again").click()
    await expect(answers(there)).to_contain_text("You said: second")
    await expect(ends).to_have_count(1)
    await there.reload()
    await expect(ends).to_contain_text(["OPENAI_API_KEY"])
    await ends.get_by_role("button", name="Try again").click()
    await expect(answers(there)).to_contain_text("You said: first")
    await expect(ends).to_have_count(0)


async def test_a_stopped_turn_says_so_and_is_tried_again(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    upstream.script(paused(asyncio.Event(), "As far as this"))
    page = await open_page(service)
    await say(page, "Go on")
    await expect(answers(page)).to_contain_text("As far as this")
    await page.get_by_role("button", name="Stop").click()
    end = page.get_by_role("group", name="Not answered")
    await expect(end).to_contain_text("Stopped")
    await page.reload()
    await expect(end).to_contain_text("Stopped")
    await end.get_by_role("button", name="Try again").click()
    await expect(answers(page)).to_contain_text("You said: Go on")
    await expect(end).to_be_hidden()


async def test_the_model_belongs_to_the_conversation(start: Start, upstream: Upstream, open_page: Open):
    service = await start(model_fallbacks=["openai@second"])
    upstream.lists({"sk-test-key": ["scripted", "second", "third"]})
    page = await open_page(service)

    async def choose(model: str) -> None:
        await page.get_by_role("button", name="Model:").click()
        await page.get_by_role("searchbox", name="Search models").fill(model)
        await page.keyboard.press("Enter")

    def shows(model: str, where: Page = page) -> Awaitable[None]:
        return expect(where.get_by_role("button", name=f"Model: openai@{model}")).to_be_visible()

    await choose("second")
    await say(page, "one")
    await expect(answers(page)).to_contain_text("You said: one")
    first = page.url
    await page.get_by_role("button", name="New conversation").click()
    await shows("second")  # it begins with what was chosen last
    await choose("third")
    await say(page, "two")
    await expect(answers(page)).to_contain_text("You said: two")
    await page.get_by_role("link", name="one").click()
    await expect(answers(page)).to_contain_text("You said: one")
    await shows("second")
    await say(page, "three")
    await expect(answers(page).last).to_contain_text("You said: three")
    there = await open_page(service, f"/#{first.partition('#')[2]}")
    await shows("second", there)
    await page.get_by_role("link", name="two").click()
    await shows("third")
    async with page.expect_response(lambda answer: answer.request.method == "PATCH") as changed:
        await choose("second")  # kept at once, also without a message
    assert (await (await changed.value).json())["model"] == "openai@second"
    await shows("second")
    assert [request["model"] for request in upstream.requests] == ["second", "third", "second"]


async def test_conversations_are_found_renamed_pinned_archived_and_deleted(start: Start, open_page: Open):
    service = await start()
    page = await open_page(service)
    for text in ("about foxes", "about boats"):
        await page.get_by_role("button", name="New conversation").click()
        await say(page, text)
        await expect(answers(page)).to_contain_text(text)
    links = page.get_by_role("navigation").get_by_role("link")
    await expect(links).to_have_count(2)
    await page.get_by_role("searchbox", name="Search conversations").fill("foxes")
    await expect(links).to_have_count(1)
    await expect(page.get_by_role("heading", name="about boats")).to_be_visible()  # it is open, and not in the list
    await page.reload()
    await page.get_by_role("searchbox", name="Search conversations").fill("foxes")
    await expect(links).to_have_count(1)
    await expect(page.get_by_role("heading", name="about boats")).to_be_visible()
    await page.get_by_role("searchbox", name="Search conversations").fill("")
    await expect(links).to_have_count(2)

    async def choose(title: str, entry: str) -> None:
        await page.get_by_role("button", name=f"Options of {title}").click()
        await page.get_by_role("menuitem", name=entry, exact=True).click()

    await choose("about foxes", "Rename")
    await page.get_by_role("textbox", name="Title").fill("The fox file")
    await page.keyboard.press("Enter")
    await expect(links.filter(has_text="The fox file")).to_be_visible()
    await choose("The fox file", "Pin")
    await expect(links.first).to_have_text("The fox file")
    await expect(page.get_by_role("heading", name="Pinned")).to_be_visible()
    await choose("about boats", "Archive")
    await expect(links).to_have_count(1)
    await page.get_by_role("button", name="Archive", exact=True).click()
    await expect(page.get_by_role("heading", name="Archived conversations")).to_be_visible()
    await choose("about boats", "Restore")
    await page.get_by_role("button", name="Back").click()
    await expect(links).to_have_count(2)
    await choose("about boats", "Delete")
    await expect(links).to_have_count(1)
    await page.get_by_role("button", name="Undo").last.click()
    await expect(links).to_have_count(2)
    await choose("about boats", "Delete")
    await expect(links).to_have_count(1)
    await page.reload()
    await expect(links).to_have_count(1)
    async with service.http() as http:
        assert [one["title"] for one in (await http.get("/api/conversations")).json()["items"]] == ["The fox file"]


async def test_one_letter_is_not_searched_for(start: Start, open_page: Open):
    service = await start()
    page = await open_page(service)
    await say(page, "about foxes")
    links = page.get_by_role("navigation").get_by_role("link")
    await expect(links).to_have_count(1)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.get_by_role("searchbox", name="Search conversations").fill("z")
    await page.get_by_role("button", name="Archive", exact=True).click()  # asks for the list again
    await expect(page.get_by_text("Nothing is archived.")).to_be_visible()
    await page.get_by_role("button", name="Archive", exact=True).click()
    await expect(links).to_have_count(1)
    assert not [url for url in asked if "q=z" in url]
    await page.get_by_role("searchbox", name="Search conversations").fill("zz")
    await expect(links).to_have_count(0)
    assert [url for url in asked if "q=zz" in url]


async def test_what_completes_a_command_stands_there_before_the_next_key(start: Start, open_page: Open):
    page = await open_page(await start())
    field = page.get_by_role("textbox", name="Message")
    await field.press_sequentially("/re")
    await expect(page.get_by_role("option")).to_have_count(1)
    text = await field.evaluate(
        """async (element) => {
            element.dispatchEvent(new KeyboardEvent("keydown", {key: "Tab", bubbles: true, cancelable: true}));
            await null;  // what comes after the event, and before the browser's next one
            return element.value;
        }"""
    )
    assert text == "/rename "


async def test_what_is_said_elsewhere_is_shown_when_one_comes_back(start: Start, open_page: Open, watch: Watch):
    watch.expected += ["404"]
    service = await start()
    here = await open_page(service)
    await say(here, "first")
    await expect(answers(here)).to_contain_text(["You said: first"])
    there = await here.context.new_page()
    await there.goto(here.url)
    await expect(answers(there)).to_have_count(1)
    await say(there, "second")
    await expect(answers(there)).to_have_count(2)
    await here.evaluate("dispatchEvent(new Event('focus'))")
    await expect(answers(here)).to_contain_text(["You said: first", "You said: second"])

    # Who reads what is older is left there.
    async with service.http() as http:
        long = {"messages": [{"role": ["user", "assistant"][n % 2], "content": f"number {n}"} for n in range(60)]}
        made = (await http.post("/api/conversations/import", json=long)).json()
        far = await open_page(service, f"/#{made['id']}")
        await expect(far.get_by_text("number 59")).to_be_in_viewport()
        await far.get_by_role("log").hover()
        await far.mouse.wheel(0, -3000)
        jump = far.get_by_role("button", name="To the newest message")
        await expect(jump).to_be_visible()
        await http.post(f"/api/conversations/{made['id']}/messages", json={"content": "from a program"})
        async with far.expect_response("**/api/conversations/*"):
            await far.evaluate("dispatchEvent(new Event('focus'))")
        await jump.click()
        await expect(far.get_by_text("number 59")).to_be_in_viewport()
        await far.evaluate("dispatchEvent(new Event('focus'))")
        await expect(far.get_by_text("You said: from a program")).to_be_in_viewport()

    # What is being written stays as it is, and all is there once it is sent.
    await here.get_by_role("button", name="Edit and send again").first.click()
    await here.get_by_role("textbox", name="Edit the message").fill("half an edit")
    await say(there, "a word between")
    await expect(answers(there)).to_have_count(3)
    async with here.expect_response("**/api/conversations/*"):
        await here.evaluate("dispatchEvent(new Event('focus'))")
    await expect(here.get_by_role("textbox", name="Edit the message")).to_have_value("half an edit")
    await here.get_by_role("button", name="Cancel").click()
    await here.get_by_role("textbox", name="Message").fill("fourth")
    await say(there, "third")
    await expect(answers(there)).to_have_count(4)
    await here.evaluate("dispatchEvent(new Event('focus'))")
    await here.get_by_role("button", name="Send", exact=True).click()
    await expect(answers(here)).to_contain_text(
        [f"You said: {n}" for n in ("first", "second", "a word between", "third", "fourth")]
    )

    async with service.http() as http:
        await http.delete(f"/api/conversations/{here.url.partition('#')[2]}")
    await here.evaluate("dispatchEvent(new Event('focus'))")
    await expect(here.get_by_text("There is no such conversation.")).to_be_visible()


async def test_commands_complete_and_run(start: Start, open_page: Open):
    service = await start()
    page = await open_page(service)
    await say(page, "/rename Too early")
    await expect(page.get_by_text("There is nothing in this conversation yet.")).to_be_visible()
    await say(page, "hello")
    await expect(answers(page)).to_contain_text("hello")
    await page.get_by_role("textbox", name="Message").press_sequentially("/re")
    await expect(page.get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Tab")
    await page.get_by_role("textbox", name="Message").press_sequentially("A better title")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="A better title")).to_be_visible()
    await say(page, "/nonsense")
    await expect(page.get_by_text("There is no command /nonsense")).to_be_visible()
    await say(page, "/help")
    await expect(page.get_by_role("dialog", name="Help")).to_contain_text("/rename TITLE")


async def test_the_service_goes_and_comes_back(start: Start, upstream: Upstream, open_page: Open, watch: Watch):
    watch.expected += ["ERR_CONNECTION", "ERR_INCOMPLETE", "Failed to load resource", "network error"]
    service = await start()
    page = await open_page(service)
    await say(page, "remember me")
    await expect(answers(page)).to_contain_text("remember me")
    await page.get_by_role("textbox", name="Message").fill("half a thought")
    port = int(service.url.rsplit(":", 1)[1])
    await service.stop()
    await page.evaluate("window.dispatchEvent(new Event('offline'))")
    await expect(page.get_by_text("The service does not answer.")).to_be_visible()
    await start(port=port)
    await expect(page.get_by_text("The service does not answer.")).to_be_hidden(timeout=30_000)
    await expect(answers(page)).to_contain_text("remember me")
    await expect(page.get_by_role("textbox", name="Message")).to_have_value("half a thought")


async def test_an_error_says_what_happened_and_the_turn_can_be_tried_again(
    start: Start, upstream: Upstream, open_page: Open
):
    service = await start()
    upstream.refuses(401, {"message": "bad key"})
    page = await open_page(service)
    await say(page, "hello")
    await expect(page.get_by_role("alert")).to_contain_text("OPENAI_API_KEY")
    await page.get_by_role("button", name="Try again").click()
    await expect(answers(page)).to_contain_text("You said: hello")
    await expect(page.get_by_label("You", exact=True)).to_have_count(1)


async def test_who_scrolls_up_while_an_answer_grows_is_left_there(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    gate = asyncio.Event()
    upstream.script(paused(gate, "first line\n\n" * 60, "last line\n\n" * 60))
    page = await open_page(service)
    await say(page, "Tell me everything")
    await expect(page.get_by_text("first line").last).to_be_in_viewport()
    await page.get_by_role("log").hover()
    await page.mouse.wheel(0, -90)
    await expect(page.get_by_text("first line").last).not_to_be_in_viewport()
    gate.set()
    await expect(page.get_by_text("last line")).to_have_count(60)
    await expect(page.get_by_role("button", name="Answer again")).to_have_count(1)
    await page.get_by_role("button", name="To the newest message").click()
    await expect(page.get_by_text("last line").last).to_be_in_viewport()


async def test_each_error_is_seen_below_a_long_conversation(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    upstream.says(*["many words "] * 600)
    page = await open_page(service)
    await say(page, "Tell me everything")
    await expect(page.get_by_role("button", name="Answer again")).to_be_in_viewport()
    for round_ in ("first", "second"):
        upstream.refuses(401, {"message": "bad key"})
        await say(page, f"the {round_}")
        await expect(page.get_by_role("log").get_by_text(f"the {round_}")).to_be_visible()
        await expect(page.get_by_role("button", name="Try again")).to_be_in_viewport(ratio=1)


async def test_a_key_that_is_entered_is_used(start: Start, upstream: Upstream, open_page: Open, watch: Watch):
    own = CustomProvider(name="studio", base_url=upstream.url, key_variable="STUDIO_KEY", model="scripted")
    service = await start(openai_base_url=None, openai_api_key=None, default_model=None, custom_providers=[own])
    page = await open_page(service)
    await page.get_by_label("Provider").select_option("studio")
    await page.get_by_label("Key").fill("sk-entered-0123456789")
    await page.get_by_role("button", name="Store the key").click()
    await expect(page.get_by_role("alert")).to_contain_text("was not stored")  # that server has no list of its models
    watch.expected += ["502"]
    async with service.http() as http:
        assert (await http.get("/api/models")).json()["items"][0]["id"] == "demo@offline"
    await page.get_by_role("button", name="Store it anyway").click()
    await expect(page.get_by_label("Provider")).to_be_hidden()
    await say(page, "hello")
    await expect(answers(page)).to_contain_text("You said: hello")
    assert upstream.headers[-1]["Authorization"] == "Bearer sk-entered-0123456789"


async def test_keys_are_managed_at_any_time(start: Start, upstream: Upstream, open_page: Open, watch: Watch):
    watch.expected += ["422"]
    upstream.lists({"sk-right": ["scripted", "other"]})
    own = CustomProvider(name="studio", base_url=upstream.url, key_variable="STUDIO_KEY", model="scripted")
    service = await start(openai_base_url=None, openai_api_key=None, default_model=None, custom_providers=[own])
    page = await open_page(service)
    await page.get_by_role("button", name="Go on with the demo model").click()
    await page.get_by_role("button", name="Model: demo@offline").click()
    await page.get_by_role("button", name="Providers and keys").click()
    dialog = page.get_by_role("dialog", name="Providers and keys")
    studio = dialog.get_by_role("listitem", name="studio")

    async def enter(button: str, key: str) -> None:
        await studio.get_by_role("button", name=button).click()
        await studio.get_by_label("Key").fill(key)
        await studio.get_by_role("button", name="Store the key").click()

    await enter("Add a key", "sk-wrong")
    await expect(studio.get_by_role("alert")).to_contain_text("studio does not accept this key")
    await expect(studio.get_by_role("button", name="Store it anyway")).to_be_hidden()
    await studio.get_by_role("button", name="Cancel").click()
    await expect(studio).to_contain_text("No key yet")
    await enter("Add a key", "sk-right")
    await expect(studio).to_contain_text("Key stored here")
    await studio.get_by_role("button", name="Test").click()
    await expect(studio).to_contain_text("studio answers.")
    await enter("Replace", "sk-wrong")
    await expect(studio.get_by_role("alert")).to_contain_text("does not accept")
    await page.keyboard.press("Escape")
    await say(page, "hello")
    await expect(answers(page)).to_contain_text("You said: hello")
    assert upstream.headers[-1]["Authorization"] == "Bearer sk-right"
    await page.get_by_role("button", name="Model: studio@scripted").click()
    await page.get_by_role("button", name="Providers and keys").click()
    await studio.get_by_role("button", name="Remove").click()
    await expect(studio).to_contain_text("No key yet")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Model: demo@offline")).to_be_visible()


async def test_a_phone_shows_the_list_when_it_is_asked_for(start: Start, open_page: Open):
    service = await start()
    page = await open_page(service, viewport=PHONE, color_scheme="dark")
    await say(page, "hello")
    await expect(answers(page)).to_contain_text("You said: hello")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await expect(page.get_by_role("navigation")).to_be_hidden()
    await page.get_by_role("button", name="Conversations").click()
    await expect(page.get_by_role("navigation")).to_be_visible()


async def test_a_skill_is_written_and_used_for_one_message(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    page = await open_page(service)
    await page.get_by_role("button", name="Skills").click()
    dialog = page.get_by_role("dialog", name="Skills")
    await dialog.get_by_role("button", name="New skill").click()
    await dialog.get_by_label("Name").fill("Haiku")
    await dialog.get_by_label("When to use it").fill("The user wants a poem.")
    await dialog.get_by_label("Instructions").fill("Write 5, 7, 5 syllables.")
    await dialog.get_by_role("button", name="Keep").click()
    await expect(dialog.get_by_role("button", name="Haiku")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.get_by_role("textbox", name="Message").press_sequentially("/skill hai")
    await page.keyboard.press("Tab")
    await page.get_by_role("textbox", name="Message").press_sequentially("about rain")
    await page.keyboard.press("Enter")
    await expect(answers(page)).to_contain_text("You said: about rain")
    assert "Write 5, 7, 5 syllables." in upstream.requests[-1]["messages"][0]["content"]
    await page.reload()
    await expect(page.get_by_text("/skill haiku")).to_be_visible()


async def test_a_skill_of_the_agents_is_marked_and_undone(start: Start, upstream: Upstream, open_page: Open):
    service = await start(tool_approval={"*": "auto"})
    async with service.http() as http, service.socket() as socket:
        skill = {"name": "Haiku", "description": "Poems.", "instructions": "Write 5, 7, 5 syllables."}
        await http.post("/api/skills", json=skill)
        upstream.calls(("c1", "updateSkill", '{"slug": "haiku", "instructions": "Rhyme."}'))
        await socket.ask("Change it")
    page = await open_page(service)
    await page.get_by_role("button", name="Skills").click()
    dialog = page.get_by_role("dialog", name="Skills")
    await dialog.get_by_role("button", name="Haiku by the agent").click()
    await expect(dialog.get_by_text("The agent wrote this.")).to_be_visible()
    await dialog.get_by_role("button", name="Undo the last change").click()
    await expect(dialog.get_by_label("Instructions")).to_have_value("Write 5, 7, 5 syllables.")
    await expect(dialog.get_by_text("The agent wrote this.")).to_be_hidden()
    await dialog.get_by_role("button", name="Delete").click()
    await dialog.get_by_role("button", name="Haiku deleted").click()
    await dialog.get_by_role("button", name="Restore").click()
    await expect(dialog.get_by_role("button", name="Delete")).to_be_visible()


async def test_a_workflow_is_drawn_and_downloaded(
    start: Start, upstream: Upstream, comfyui: FakeComfyUI, open_page: Open
):
    service = await start(comfyui_url=comfyui.url, tool_approval={"executeWorkflow": "auto"})
    upstream.calls(("a", "addNode", '{"nodeType": "EmptyImage"}'), ("b", "addNode", '{"nodeType": "SaveImage"}'))
    upstream.calls(("c", "connectNodes", '{"sourceNodeId": 1, "sourceSlot": 0, "targetNodeId": 2, "targetSlot": 0}'))
    upstream.says("Built.")
    page = await open_page(service)
    await say(page, "Build it")
    await expect(answers(page)).to_contain_text("Built.")
    await page.get_by_role("button", name="Workflow").click()
    dialog = page.get_by_role("dialog", name="Workflow")
    await expect(dialog.get_by_role("img", name="A workflow of EmptyImage, SaveImage")).to_be_visible()
    assert await dialog.locator("svg path[stroke='#3f86c9']").count() == 1
    async with page.expect_download() as download:
        await dialog.get_by_role("link", name="API format").click()
    content = orjson.loads((await (await download.value).path()).read_bytes())
    assert content["2"]["inputs"]["images"] == ["1", 0]
    upstream.calls(("d", "executeWorkflow", "{}"))
    await dialog.get_by_role("button", name="Run it").click()
    await expect(page.get_by_role("button", name="Open the picture")).to_be_visible()


async def test_the_context_is_shown_and_made_short(start: Start, upstream: Upstream, open_page: Open):
    service = await start(system_prompt="Be kind.")
    page = await open_page(service)
    for text in ("one", "two"):
        await say(page, text)
        await expect(answers(page).last).to_contain_text(f"You said: {text}")
    upstream.says("They counted.")
    await say(page, "/compact")
    await expect(page.get_by_text("2 messages are now a summary")).to_be_visible()
    await page.get_by_role("button", name="Context").click()
    dialog = page.get_by_role("dialog", name="Context")
    await dialog.get_by_text("summary").click()
    await expect(dialog.get_by_text("They counted.").first).to_be_visible()
    await expect(answers(page)).to_have_count(2)


async def test_the_workflow_in_a_picture_is_opened(
    start: Start, upstream: Upstream, comfyui: FakeComfyUI, open_page: Open
):
    service = await start(comfyui_url=comfyui.url)
    written = PngInfo()
    written.add_text("prompt", '{"1": {"class_type": "EmptyImage", "inputs": {"width": 48}}}')
    made = io.BytesIO()
    Image.new("RGB", (8, 8)).save(made, "PNG", pnginfo=written)
    page = await open_page(service)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Attach files").click()
    await (await chooser.value).set_files({"name": "a.png", "mimeType": "image/png", "buffer": made.getvalue()})
    await say(page, "How was this made?")
    await expect(answers(page)).to_contain_text("You said:")
    await page.get_by_role("button", name="Open the picture").click()
    await page.get_by_role("button", name="Open the workflow").click()
    drawing = page.get_by_role("dialog", name="Workflow")
    await expect(drawing.get_by_role("img", name="A workflow of EmptyImage")).to_be_visible()
    await expect(drawing).to_contain_text("width 48")


async def test_what_another_model_begins_anew_is_not_shown_twice(start: Start, upstream: Upstream, open_page: Open):
    async def broken(answer: Answer) -> None:
        await answer.delta(content="Something void ")
        await shown.wait()
        answer.cut()

    shown, gate = asyncio.Event(), asyncio.Event()
    service = await start(model_fallbacks=["openai@second"])
    upstream.script(broken, paused(gate, "The right ", "answer."))
    page = await open_page(service)
    await say(page, "Go")
    await expect(answers(page)).to_contain_text("Something void")
    shown.set()
    await expect(answers(page)).to_contain_text("The right")
    await expect(answers(page)).not_to_contain_text("void")
    gate.set()
    await expect(answers(page)).to_contain_text("The right answer.")
    await expect(answers(page)).to_have_count(1)


async def test_a_file_is_dropped(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    page = await open_page(service)
    await page.locator(".dropzone").evaluate(
        """zone => {
            const data = new DataTransfer();
            data.items.add(new File(["dropped words"], "dropped.txt", { type: "text/plain" }));
            for (const type of ["dragenter", "dragover", "drop"])
                zone.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    await expect(page.get_by_role("button", name="Remove dropped.txt")).to_be_visible()
    await say(page, "Read it")
    await expect(answers(page)).to_contain_text("You said:")
    assert "dropped words" in str(upstream.requests[-1]["messages"][-1]["content"])


async def test_a_conversation_of_another_client_grows_on_the_page(start: Start, upstream: Upstream, open_page: Open):
    service = await start()
    async with service.socket() as socket:
        frames = await socket.ask("from the terminal")
        page = await open_page(service, f"/#{frames[0]['conversation_id']}")
        await expect(answers(page)).to_contain_text("You said: from the terminal")
        await expect(page.get_by_role("heading", name="from the terminal")).to_be_visible()


async def test_a_session_that_is_over_leads_to_the_login(start: Start, open_page: Open, watch: Watch):
    watch.expected += ["Failed to load resource", "This needs a token"]
    service = await start()
    page = await open_page(service)
    await expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    await page.wait_for_load_state("networkidle")  # what is still asked for would lead there too
    await page.context.clear_cookies()
    await page.get_by_role("searchbox", name="Search conversations").fill("xy")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("textbox", name="Message")).to_be_visible()
