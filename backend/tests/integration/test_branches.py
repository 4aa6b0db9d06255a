"""Edit and regenerate: branches, of which nothing is overwritten."""

import asyncio

from tests.client import Service, text_of
from tests.upstream import Answer, Upstream


async def two_turns(service: Service) -> list[dict[str, str]]:
    async with service.socket() as socket:
        frames = await socket.ask("One")
        await socket.ask("Two", conversation_id=frames[0]["conversation_id"])
    return await service.history(frames[0]["conversation_id"])


def contents(history: list[dict[str, str]]) -> list[str]:
    return [message["content"] for message in history]


async def test_an_edited_message_begins_a_branch(service: Service, upstream: Upstream):
    history = await two_turns(service)
    conversation_id = history[0]["conversation_id"]
    async with service.socket() as socket:
        await socket.send(type="edit", conversation_id=conversation_id, message_id=history[2]["id"], content="Zwei")
        end = await socket.until("complete")
    edited = await service.history(conversation_id)
    assert contents(edited) == ["One", "You said: One", "Zwei", "You said: Zwei"]
    assert end["message_id"] == edited[-1]["id"]
    assert edited[2]["parent_id"] == history[2]["parent_id"]
    assert [m["content"] for m in upstream.requests[-1]["messages"]] == ["One", "You said: One", "Zwei"]
    siblings = (await service.get(f"/api/conversations/{conversation_id}/messages/{edited[2]['id']}/siblings"))["items"]
    assert contents(siblings) == ["Two", "Zwei"]

    async with service.http() as http:
        path = f"/api/conversations/{conversation_id}"
        assert (await http.put(path + "/head", json={"message_id": history[2]["id"]})).status_code == 200
        assert await service.history(conversation_id) == history
        exported = (await http.get(path + "/export")).json()
        assert len(exported["messages"]) == 6
        copy = (await http.post("/api/conversations/import", json=exported)).json()
    assert contents(await service.history(copy["id"])) == contents(history)
    async with service.socket() as socket:
        await socket.ask("Three", conversation_id=conversation_id)
        await socket.ask("Three", conversation_id=copy["id"])
    assert contents(await service.history(conversation_id)) == [*contents(history), "Three", "You said: Three"]
    assert contents(await service.history(copy["id"])) == [*contents(history), "Three", "You said: Three"]
    assert len((await service.get("/api/conversations", q="Zwei"))["items"]) == 2


async def test_the_first_message_can_be_edited(service: Service):
    history = await two_turns(service)
    conversation_id = history[0]["conversation_id"]
    async with service.socket() as socket:
        await socket.send(type="edit", conversation_id=conversation_id, message_id=history[0]["id"], content="Eins")
        await socket.until("complete")
    edited = await service.history(conversation_id)
    assert contents(edited) == ["Eins", "You said: Eins"]
    assert edited[0]["parent_id"] is None
    siblings = (await service.get(f"/api/conversations/{conversation_id}/messages/{edited[0]['id']}/siblings"))["items"]
    assert contents(siblings) == ["One", "Eins"]


async def test_an_answer_is_given_again_beside_the_old_one(service: Service, upstream: Upstream):
    upstream.calls(("call_1", "add", '{"a": 1, "b": 1}'))
    upstream.says("It is 3.")
    async with service.socket() as socket:
        first = await socket.ask("What is 1 + 1?")
        conversation_id = first[0]["conversation_id"]
        old = await service.history(conversation_id)
        upstream.says("It is 2.")
        await socket.send(
            type="regenerate", conversation_id=conversation_id, message_id=old[-1]["id"], model="openai@other"
        )
        accepted = await socket.until("accepted")
        await socket.until("complete")
    assert accepted["message_id"] == old[0]["id"]
    assert accepted["run_id"] != first[0]["run_id"]
    assert upstream.requests[-1]["model"] == "other"
    assert [m["role"] for m in upstream.requests[-1]["messages"]] == ["user"]
    new = await service.history(conversation_id)
    assert contents(new) == ["What is 1 + 1?", "It is 2."]
    assert new[0] == old[0]
    siblings = (await service.get(f"/api/conversations/{conversation_id}/messages/{new[1]['id']}/siblings"))["items"]
    assert [m["id"] for m in siblings] == [old[1]["id"], new[1]["id"]]
    async with service.http() as http:
        await http.put(f"/api/conversations/{conversation_id}/head", json={"message_id": old[1]["id"]})
    assert await service.history(conversation_id) == old


async def test_branching_wants_the_right_message_and_an_idle_conversation(service: Service, upstream: Upstream):
    history = await two_turns(service)
    conversation_id, user, answer = history[0]["conversation_id"], history[0]["id"], history[1]["id"]

    async def endless(script: Answer) -> None:
        await script.delta(content="…")
        await asyncio.Event().wait()

    async with service.socket() as socket, service.http() as http:
        for frame, code in (
            ({"type": "edit", "message_id": answer, "content": "x"}, "invalid_frame"),
            ({"type": "edit", "message_id": user, "content": " "}, "empty_input"),
            ({"type": "edit", "message_id": "nobody", "content": "x"}, "not_found"),
            ({"type": "regenerate", "message_id": user}, "invalid_frame"),
            ({"type": "regenerate", "message_id": "nobody"}, "not_found"),
            ({"type": "regenerate", "message_id": answer, "model": "nobody@x"}, "unknown_model"),
        ):
            await socket.send(conversation_id=conversation_id, **frame)
            error = await socket.until("error")
            assert (error["code"], error["in_reply_to"]) == (code, frame["type"])
        head = f"/api/conversations/{conversation_id}/head"
        assert (await http.put(head, json={"message_id": "nobody"})).status_code == 404
        upstream.script(endless)
        await socket.send(type="message", content="Three", conversation_id=conversation_id)
        running = await socket.until("token")
        await socket.send(type="regenerate", conversation_id=conversation_id, message_id=answer)
        assert (await socket.until("error"))["code"] == "conversation_busy"
        assert (await http.put(head, json={"message_id": answer})).json()["code"] == "conversation_busy"
        await socket.send(type="cancel", run_id=running["run_id"])
        await socket.until("cancelled")
    assert contents(await service.history(conversation_id))[:4] == contents(history)
    assert text_of(socket.frames) == "…"
