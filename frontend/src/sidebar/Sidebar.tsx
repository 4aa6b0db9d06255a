/** The list of conversations: search, begin, rename, pin, archive, delete, take away. */
import {
  Archive,
  ArchiveRestore,
  ArrowLeft,
  BookOpen,
  Download,
  MoreHorizontal,
  Moon,
  Pencil,
  Pin,
  PinOff,
  Plus,
  Search,
  Sun,
  SunMoon,
  Trash2,
} from "lucide-react";
import { useEffect, useRef, useState, type ReactNode } from "react";
import { api, type Conversation } from "../app/api";
import { useTheme, type Theme } from "../app/theme";
import type { Conversations } from "./useConversations";

interface Props {
  list: Conversations;
  current: string | null;
  onOpen: (id: string) => void;
  onNew: () => void;
  onSkills: () => void;
}

export function Sidebar({ list, current, onOpen, onNew, onSkills }: Props) {
  const pinned = list.items.filter((one) => one.pinned);
  const others = list.items.filter((one) => !one.pinned);
  const item = (one: Conversation) => (
    <Item key={one.id} conversation={one} isCurrent={one.id === current} list={list} onOpen={() => onOpen(one.id)} />
  );
  return (
    <nav className="sidebar" aria-label="Conversations">
      <header>
        <img src="/assets/icon.svg" alt="" width={28} height={28} />
        <h1>Atelier</h1>
        <ThemeButton />
      </header>
      <button className="new" onClick={onNew}>
        <Plus size={17} /> New conversation
      </button>
      <label className="search">
        <Search size={16} aria-hidden="true" />
        <input
          type="search"
          placeholder="Search"
          aria-label="Search conversations"
          value={list.wanted}
          onChange={(event) => list.search(event.target.value)}
        />
      </label>
      <div className="list" aria-busy={list.isLoading}>
        {list.showsArchived && (
          <div className="archive">
            <h2>Archived conversations</h2>
            <button className="quiet" onClick={() => list.showArchived(false)}>
              <ArrowLeft size={15} /> Back
            </button>
          </div>
        )}
        {pinned.length > 0 && <h2>Pinned</h2>}
        <ul>{pinned.map(item)}</ul>
        {pinned.length > 0 && others.length > 0 && <h2>All</h2>}
        <ul>{others.map(item)}</ul>
        {!list.isLoading && list.items.length === 0 && (
          <p className="none">
            {list.isSearching
              ? "Nothing has these words."
              : list.showsArchived
                ? "Nothing is archived."
                : "Conversations stay here once you have begun one."}
          </p>
        )}
        {list.hasMore && (
          <button className="quiet more" onClick={list.more}>
            Show more
          </button>
        )}
      </div>
      <footer>
        <button className="quiet" onClick={onSkills}>
          <BookOpen size={16} /> Skills
        </button>
        <button
          className="quiet"
          aria-pressed={list.showsArchived}
          onClick={() => list.showArchived(!list.showsArchived)}
        >
          <Archive size={16} /> Archive
        </button>
      </footer>
    </nav>
  );
}

function Item({
  conversation,
  isCurrent,
  list,
  onOpen,
}: {
  conversation: Conversation;
  isCurrent: boolean;
  list: Conversations;
  onOpen: () => void;
}) {
  const [isOpen, setIsOpen] = useState(false);
  const [title, setTitle] = useState<string | null>(null);
  const shown = conversation.title ?? "Untitled";
  const menu = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    if (!isOpen) return;
    menu.current?.querySelector<HTMLElement>("button, a")?.focus();
    const close = (event: PointerEvent) => {
      if (!menu.current?.contains(event.target as Node) && !button.current?.contains(event.target as Node))
        setIsOpen(false);
    };
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, [isOpen]);

  if (title !== null)
    return (
      <li>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            list.change(conversation, { title: title.trim() || null });
            setTitle(null);
          }}
        >
          <input
            autoFocus
            aria-label="Title"
            value={title}
            maxLength={200}
            onFocus={(event) => event.target.select()}
            onChange={(event) => setTitle(event.target.value)}
            onBlur={() => setTitle(null)}
            onKeyDown={(event) => event.key === "Escape" && setTitle(null)}
          />
        </form>
      </li>
    );

  const entry = (label: string, icon: ReactNode, act: () => void) => (
    <button
      role="menuitem"
      onClick={() => {
        setIsOpen(false);
        act();
      }}
    >
      {icon} {label}
    </button>
  );
  return (
    <li className={isCurrent ? "current" : undefined}>
      <a
        href={`#${conversation.id}`}
        aria-current={isCurrent ? "page" : undefined}
        title={shown}
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey) return;
          event.preventDefault();
          onOpen();
        }}
      >
        {conversation.active_run_id && <span className="pulse" role="img" aria-label="Is being answered" />}
        {shown}
      </a>
      <button
        ref={button}
        className="icon"
        aria-haspopup="menu"
        aria-expanded={isOpen}
        aria-label={`Options of ${shown}`}
        onClick={() => setIsOpen(!isOpen)}
      >
        <MoreHorizontal size={16} />
      </button>
      {isOpen && (
        <div
          className="menu"
          role="menu"
          ref={menu}
          onKeyDown={(event) => {
            const entries = [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
            const place = entries.indexOf(document.activeElement as HTMLElement);
            if (event.key === "Escape") {
              setIsOpen(false);
              button.current?.focus();
            } else if (event.key === "ArrowDown") entries[(place + 1) % entries.length]?.focus();
            else if (event.key === "ArrowUp") entries[(place - 1 + entries.length) % entries.length]?.focus();
            else return;
            event.preventDefault();
          }}
        >
          {entry("Rename", <Pencil size={15} />, () => setTitle(shown))}
          {conversation.pinned
            ? entry("Unpin", <PinOff size={15} />, () => list.change(conversation, { pinned: false }))
            : entry("Pin", <Pin size={15} />, () => list.change(conversation, { pinned: true }))}
          {conversation.archived
            ? entry("Restore", <ArchiveRestore size={15} />, () => list.change(conversation, { archived: false }))
            : entry("Archive", <Archive size={15} />, () => list.change(conversation, { archived: true }))}
          <a role="menuitem" href={api.exportUrl(conversation.id, "markdown")} download>
            <Download size={15} /> Export as Markdown
          </a>
          <a role="menuitem" href={api.exportUrl(conversation.id, "json")} download>
            <Download size={15} /> Export as JSON
          </a>
          {entry("Delete", <Trash2 size={15} />, () => list.remove(conversation))}
        </div>
      )}
    </li>
  );
}

const THEMES: Record<Theme, { next: Theme; label: string; Icon: typeof Sun }> = {
  system: { next: "light", label: "Theme: as the system", Icon: SunMoon },
  light: { next: "dark", label: "Theme: light", Icon: Sun },
  dark: { next: "system", label: "Theme: dark", Icon: Moon },
};

function ThemeButton() {
  const [theme, setTheme] = useTheme();
  const { next, label, Icon } = THEMES[theme];
  return (
    <button className="icon" aria-label={label} title={label} onClick={() => setTheme(next)}>
      <Icon size={17} />
    </button>
  );
}
