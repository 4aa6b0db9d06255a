/** The skills: read, write, change, delete, take away and bring back. */
import { Download, Plus, Trash2, Upload } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { api, type Skill } from "../app/api";
import { Dialog } from "../app/Dialog";
import { messageOf } from "../app/errors";
import { complain } from "../app/notices";

const EMPTY: Skill = { slug: "", name: "", description: "", instructions: "", built_in: false };

export function SkillsDialog({ onClose, onChange }: { onClose: () => void; onChange: (skills: Skill[]) => void }) {
  const [skills, setSkills] = useState<Skill[]>([]);
  const [edited, setEdited] = useState<Skill | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const file = useRef<HTMLInputElement>(null);

  const read = async () => {
    const found = (await api.skills()).items;
    setSkills(found);
    onChange(found);
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
                    {skill.name} {skill.built_in && <small>built in</small>}
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
            key={edited.slug}
            onSubmit={(event) => {
              event.preventDefault();
              const fields = Object.fromEntries(new FormData(event.currentTarget)) as unknown as Skill;
              void attempt(() => (edited.slug ? api.changeSkill(edited.slug, fields) : api.addSkill(fields)));
            }}
          >
            <label>
              Name
              <input name="name" required maxLength={80} defaultValue={edited.name} readOnly={edited.built_in} />
            </label>
            <label>
              When to use it
              <input
                name="description"
                required
                maxLength={500}
                defaultValue={edited.description}
                readOnly={edited.built_in}
              />
            </label>
            <label>
              Instructions
              <textarea
                name="instructions"
                required
                maxLength={20000}
                rows={12}
                defaultValue={edited.instructions}
                readOnly={edited.built_in}
              />
            </label>
            {problem && (
              <p className="error" role="alert">
                {problem}
              </p>
            )}
            <div>
              {!edited.built_in && <button className="primary">{edited.slug ? "Save" : "Keep"}</button>}
              {edited.slug && (
                <a className="file" href={api.skillUrl(edited.slug)} download>
                  <Download size={15} /> Export
                </a>
              )}
              {edited.slug && !edited.built_in && (
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
