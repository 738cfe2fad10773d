// One finding: what, where, since when, the evidence, what to do.

import type { Finding } from "../data/types";
import { href } from "../data/route";
import { useWords } from "../words/words";

export function FindingCard({ finding, run }: { finding: Finding; run: string }) {
  const say = useWords();
  const { where, step } = finding;
  return (
    <li class={`finding ${finding.severity}`}>
      <h3>
        <code>{finding.code}</code>
        <span class="severity">{say(`verdict_${finding.severity}`)}</span>
      </h3>
      <p class="where">
        {where === null ? (
          <>{say("whole_run")}, {say("since", { step })}</>
        ) : (
          <>
            <a href={href(run, "layers", { layer: where })} title={say("show_layer")}>
              <code>{where || "(model)"}</code>
            </a>{" "}
            {say("since", { step })}
          </>
        )}
      </p>
      {finding.evidence.length > 0 && (
        <dl class="evidence" aria-label={say("evidence")}>
          {finding.evidence.map(([name, value]) => (
            <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
          ))}
        </dl>
      )}
      <p class="advice" lang="en">{finding.advice}</p>
      {finding.fix && <pre tabIndex={0} aria-label={say("advice")}><code>{finding.fix}</code></pre>}
    </li>
  );
}
