/** The skills: read, write, change, delete, take away and bring back. */
import { Download, Plus, Trash2, Undo2, Upload } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { api, type Skill } from "../app/api";
import { Dialog } from "../app/Dialog";
import { messageOf } from "../app/errors";
import { complain } from "../app/notices";

const EMPTY: Skill = { slug: "", name: "", description: "", instructions: "", built_in: false };

/** What one should know of a skill before reading it. */
function markOf(skill: Skill): string {
  if (skill.deleted_at) return "deleted";
  if (skill.built_in) return "built in";
  return skill.author === "agent" ? "by the agent" : "";
}

export function SkillsDialog({ onClose, onChange }: { onClose: () => void; onChange: (skills: Skill[]) => void }) {
  const [skills, setSkills] = useState<Skill[]>([]);
  const [edited, setEdited] = useState<Skill | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const file = useRef<HTMLInputElement>(null);

  const read = async () => {
    const found = (await api.skillsWithDeleted()).items;
    setSkills(found);
    onChange(found.filter((skill) => !skill.deleted_at));
  };
  useEffect(() => {
    read().catch(complain);
  }, []);

  const attempt = async (work: () => Promise<Skill | void>) => {
    setProblem(null);
    try {
      const done = await work();
      await read();
      setEdited(done ?? null);
    } catch (error) {
      setProblem(messageOf(error));
    }
  };

  const isFixed = Boolean(edited?.built_in || edited?.deleted_at);
  return (
    <Dialog title="Skills" onClose={onClose}>
      <p className="note">
        Instructions that are kept under a name. The agent reads them when they fit, or when you write{" "}
        <code>/skill NAME</code>.
      </p>
      <div className="skills">
        <div>
          <ul>
            {skills.map((skill) => (
              <li key={skill.slug}>
                <button className="quiet" aria-pressed={edited?.slug === skill.slug} onClick={() => setEdited(skill)}>
                  <span>
                    {skill.name} <small>{markOf(skill)}</small>
                  </span>
                  <small>{skill.description}</small>
                </button>
              </li>
            ))}
          </ul>
          <div className="buttons">
            <button onClick={() => setEdited(EMPTY)}>
              <Plus size={15} /> New skill
            </button>
            <button onClick={() => file.current?.click()}>
              <Upload size={15} /> From a file
            </button>
          </div>
          <input
            ref={file}
            type="file"
            accept=".md,text/markdown"
            hidden
            aria-label="A skill's Markdown file"
            onChange={(event) => {
              const chosen = event.target.files?.[0];
              if (chosen) void attempt(async () => api.importSkill(await chosen.text()));
              event.target.value = "";
            }}
          />
        </div>
        {!edited && <p className="note">Choose a skill to read it, or write a new one.</p>}
        {edited && (
          <form
            key={`${edited.slug} ${edited.updated_at} ${edited.deleted_at}`}
            onSubmit={(event) => {
              event.preventDefault();
              const fields = Object.fromEntries(new FormData(event.currentTarget)) as unknown as Skill;
              void attempt(() => (edited.slug ? api.changeSkill(edited.slug, fields) : api.addSkill(fields)));
            }}
          >
            <label>
              Name
              <input name="name" required maxLength={80} defaultValue={edited.name} readOnly={isFixed} />
            </label>
            <label>
              When to use it
              <input name="description" required maxLength={500} defaultValue={edited.description} readOnly={isFixed} />
            </label>
            <label>
              Instructions
              <textarea
                name="instructions"
                required
                maxLength={20000}
                rows={12}
                defaultValue={edited.instructions}
                readOnly={isFixed}
              />
            </label>
            {edited.author === "agent" && !edited.deleted_at && (
              <p className="note">
                The agent wrote this. Until you have read and saved it, the agent is told not to rely on it.
              </p>
            )}
            {problem && (
              <p className="error" role="alert">
                {problem}
              </p>
            )}
            <div>
              {!isFixed && <button className="primary">{edited.slug ? "Save" : "Keep"}</button>}
              {edited.deleted_at && (
                <button
                  type="button"
                  className="primary"
                  onClick={() => void attempt(() => api.restoreSkill(edited.slug))}
                >
                  <Undo2 size={15} /> Restore
                </button>
              )}
              {edited.can_undo && !edited.deleted_at && (
                <button type="button" onClick={() => void attempt(() => api.restoreSkill(edited.slug))}>
                  <Undo2 size={15} /> Undo the last change
                </button>
              )}
              {edited.slug && !edited.deleted_at && (
                <a className="file" href={api.skillUrl(edited.slug)} download>
                  <Download size={15} /> Export
                </a>
              )}
              {edited.slug && !isFixed && (
                <button type="button" onClick={() => void attempt(() => api.removeSkill(edited.slug))}>
                  <Trash2 size={15} /> Delete
                </button>
              )}
            </div>
          </form>
        )}
      </div>
    </Dialog>
  );
}
