/**
 * Where a step belongs: dotted names → the composite and the branch that it is in.
 *
 * Names of steps hold no dots (runnable refuses them); values of a map, which are labels of branches, may.
 */

const HOLE = "*"; // in the graph: the item of a map, the round of a loop
const DEEPEST = 40; // levels of a graph
const MOST_PARTS = 64; // a name with more is no path of steps: it stays one name

/** The graph of a run as maps; what is malformed, cyclic or without an id is left out. */
export function readGraph(graph) {
  const byId = new Map();
  const top = [];
  for (const node of Array.isArray(graph?.nodes) ? graph.nodes : []) {
    if (typeof node?.id !== "string" || !node.id || byId.has(node.id) || byId.size >= 50_000) continue;
    if (node.type === "success" || node.type === "fail") continue;
    byId.set(node.id, {
      id: node.id,
      name: typeof node.name === "string" && node.name ? node.name : lastPart(node.id),
      type: typeof node.type === "string" ? node.type : "",
      taskType: typeof node.task_type === "string" ? node.task_type : "",
      parent: typeof node.parent === "string" ? node.parent : "",
      label: "",
      branch: typeof node.branch === "string" ? node.branch : "",
      children: [],
    });
  }
  for (const node of byId.values()) {
    const parent = byId.get(node.parent);
    if (!parent) {
      if (!node.parent) top.push(node);
      continue;
    }
    parent.children.push(node);
    const label = node.branch.startsWith(`${parent.id}.`) ? node.branch.slice(parent.id.length + 1) : node.branch;
    node.label = label === HOLE ? "" : label || labelOf(node, parent);
  }
  const composites = [...byId.values()].filter((node) => node.children.length).map((node) => node.id.split("."));
  prune(top);
  return { top, composites };
}

function prune(top) {
  let level = top;
  for (let depth = 0; level.length; depth += 1) {
    if (depth >= DEEPEST) for (const node of level) node.children = [];
    level = level.flatMap((node) => node.children);
  }
}

// Of `look up.stock.count` below `look up`: `stock`.
function labelOf(node, parent) {
  if (!node.id.startsWith(`${parent.id}.`) || !node.id.endsWith(`.${node.name}`)) return "";
  const label = node.id.slice(parent.id.length + 1, -node.name.length - 1);
  return label === HOLE ? "" : label;
}

export function lastPart(dotted) {
  return dotted.slice(dotted.lastIndexOf(".") + 1);
}

/**
 * The dotted name of a branch as those of the composite and the label: `["each region", "north"]`.
 *
 * `isComposite` says whether a dotted name is known to be one. Where none is, the label is taken to hold no dot.
 */
export function splitBranch(branch, isComposite) {
  for (let dot = branch.lastIndexOf("."); dot > 0; dot = branch.lastIndexOf(".", dot - 1)) {
    if (isComposite(branch.slice(0, dot))) return [branch.slice(0, dot), branch.slice(dot + 1)];
  }
  const dot = branch.lastIndexOf(".");
  return dot > 0 ? [branch.slice(0, dot), branch.slice(dot + 1)] : ["", branch];
}

/** Whether a dotted name is that of a composite of the graph; its holes stand for any value. */
export function inGraph(composites, dotted) {
  const parts = dotted.split(".");
  return composites.some(
    (path) => path.length === parts.length && path.every((part, index) => part === parts[index] || part === HOLE),
  );
}

/** The branch that a step is in: what the event says, else all but the last part of a name that has three or more. */
export function branchOf(step, branch) {
  if (branch && step.startsWith(`${branch}.`)) return branch;
  const parts = step.split(".", MOST_PARTS + 1);
  return parts.length >= 3 && parts.length % 2 === 1 && parts.length <= MOST_PARTS ? parts.slice(0, -1).join(".") : "";
}

/** The branch around a composite whose dotted name is known: all but its last part, which holds no dot. */
export function branchAround(composite) {
  const parts = composite.split(".", MOST_PARTS + 1);
  return parts.length >= 3 && parts.length <= MOST_PARTS ? parts.slice(0, -1).join(".") : "";
}
