/** The messages of a conversation. Only what is seen is in the document, however long it is. */
import { ThreadPrimitive, useAui, useAuiState } from "@assistant-ui/react";
import { ArrowDown } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type ReactNode } from "react";
import { Virtualizer, type VirtualizerHandle } from "virtua";
import { complain } from "../app/notices";
import { useChatContext } from "./chat";
import { AssistantMessage, SystemMessage, UserMessage } from "./Message";

const NEAR = 120;
const EARLY = 1500;
/** How long after a wheel, key or finger moved the thread goes on scrolling by it, in milliseconds. */
const MOMENTUM = 300;
const parts = { UserMessage, AssistantMessage, SystemMessage };

/** How much there is below what is in sight, in pixels. */
function restOf(element: HTMLElement): number {
  return element.scrollHeight - element.scrollTop - element.clientHeight;
}

export function Thread({ empty }: { empty: ReactNode }) {
  const { chat, loadOlder, isAtEnd } = useChatContext();
  const aui = useAui();
  const length = useAuiState((state) => state.thread.messages.length);
  const firstId = useAuiState((state) => state.thread.messages[0]?.id);
  const before = useRef({ length, firstId });
  // Where older messages have come before the others, what is in sight has to stay where it is.
  const isPrepended = length > before.current.length && before.current.length > 0 && firstId !== before.current.firstId;
  const ids = aui
    .thread()
    .getState()
    .messages.map((one) => one.id);
  const viewport = useRef<HTMLDivElement>(null);
  const list = useRef<VirtualizerHandle>(null);
  const last = useRef({ top: 0, height: 0 });
  const touched = useRef(-MOMENTUM);
  const isHeld = useRef(false);
  const isLoading = useRef(false);
  const [showsJump, setShowsJump] = useState(false);

  const toEnd = useCallback(() => {
    const element = viewport.current;
    if (!element) return;
    isAtEnd.current = true;
    element.scrollTop = element.scrollHeight;
  }, [isAtEnd]);

  const offerJump = useCallback(() => {
    const element = viewport.current;
    if (element) setShowsJump(restOf(element) > 2 * element.clientHeight);
  }, []);

  useLayoutEffect(() => {
    before.current = { length, firstId };
  }, [length, firstId]);

  // The end stays in sight while the answer grows, as long as the reader has not scrolled away from it.
  useLayoutEffect(() => {
    const content = viewport.current?.firstElementChild;
    if (!content) return;
    const observer = new ResizeObserver(() => {
      if (isAtEnd.current) toEnd();
      else offerJump();
    });
    observer.observe(content);
    return () => observer.disconnect();
  }, [toEnd, offerJump, isAtEnd]);

  useEffect(() => {
    if (chat.status === "submitted") toEnd();
  }, [chat.status, toEnd]);

  const onTouch = () => {
    touched.current = performance.now();
  };

  useEffect(() => {
    const release = () => (isHeld.current = false);
    window.addEventListener("pointerup", release);
    window.addEventListener("pointercancel", release);
    return () => {
      window.removeEventListener("pointerup", release);
      window.removeEventListener("pointercancel", release);
    };
  }, []);

  const onScroll = () => {
    const element = viewport.current;
    if (!element) return;
    const { scrollTop: top, scrollHeight: height } = element;
    const rest = restOf(element);
    // Only a reader who scrolls up leaves the end: what grows, shrinks and is measured anew moves the thread as well.
    const isTouched = isHeld.current || performance.now() - touched.current < MOMENTUM;
    if (top < last.current.top && rest > 1 && (isTouched || height === last.current.height)) {
      isAtEnd.current = false;
      if (isTouched) touched.current = performance.now();
    } else if (rest < NEAR) isAtEnd.current = true;
    last.current = { top, height };
    offerJump();
    if (element.scrollTop < EARLY && loadOlder && !isLoading.current) {
      isLoading.current = true;
      loadOlder()
        .catch(complain)
        .finally(() => (isLoading.current = false));
    }
  };

  return (
    <ThreadPrimitive.Root className="thread">
      <div
        className="viewport"
        ref={viewport}
        onScroll={onScroll}
        onWheel={onTouch}
        onTouchMove={onTouch}
        onKeyDown={onTouch}
        onPointerDown={() => (isHeld.current = true)}
        tabIndex={0}
        role="log"
        aria-label="Messages"
        aria-busy={chat.status === "streaming"}
      >
        <div className="messages">
          {length === 0 ? (
            empty
          ) : (
            <Virtualizer ref={list} scrollRef={viewport} shift={isPrepended} bufferSize={600}>
              {ids.map((id, index) => (
                <ThreadPrimitive.MessageByIndex key={id} index={index} components={parts} />
              ))}
            </Virtualizer>
          )}
          {/* Behind a message of the user, an empty answer shows the same. */}
          {chat.status === "submitted" && chat.messages.at(-1)?.role === "assistant" && (
            <div className="message assistant pending" aria-label="The answer is on its way">
              <span className="dots" aria-hidden="true">
                <i />
                <i />
                <i />
              </span>
            </div>
          )}
          {chat.error && <Failure error={chat.error} />}
        </div>
      </div>
      {showsJump && (
        <button className="jump" onClick={toEnd} aria-label="To the newest message">
          <ArrowDown size={18} />
        </button>
      )}
    </ThreadPrimitive.Root>
  );
}

function Failure({ error }: { error: Error }) {
  const { chat, reload, answerAgain } = useChatContext();
  const isNetwork = error instanceof TypeError;
  return (
    <div className="failure" role="alert">
      <p>{isNetwork ? "The connection to the service was lost. The answer goes on there." : error.message}</p>
      <button
        onClick={() => {
          chat.clearError();
          if (isNetwork) reload();
          else answerAgain();
        }}
      >
        {isNetwork ? "Take it up again" : "Try again"}
      </button>
    </div>
  );
}
