/** What the graph of a run names and no event has told of yet: the nodes of steps that wait. */

const COMPOSITES = new Set(["parallel", "map", "loop", "conditional"]);

/** Add to a run's node what its graph has: `top` as `readGraph` gives it. */
export function unfold(grower, owner, top) {
  top.forEach((template, order) => place(grower, owner, owner, template, template.id, order));
}

/** The same of a branch that has appeared since, once its composite's template is known. */
export function unfoldBranch(grower, owner, branch) {
  const { template } = branch.parent;
  if (!template) return;
  const inside = template.children.filter((child) => child.label === branch.name || (isRepeated(template) && !child.label));
  fill(grower, owner, branch, inside);
  grower.drop(`${branch.parent.key}/each`);
}

function place(grower, owner, parent, template, step, order) {
  const node = grower.stepNode(owner, parent, step, template.type || "composite");
  node.order = Math.min(node.order, order);
  node.template = template;
  if (node.kind === "composite" && COMPOSITES.has(template.type)) node.kind = template.type;
  node.taskType ||= template.taskType;
  for (const label of new Set(template.children.map((child) => child.label))) {
    const inside = template.children.filter((child) => child.label === label);
    if (label) fill(grower, owner, grower.branchNode(owner, node, `${step}.${label}`, label), inside);
    else if (isRepeated(template)) eachItem(grower, owner, node, inside);
    else inside.forEach((child, at) => place(grower, owner, node, child, child.id, at));
  }
}

function isRepeated(template) {
  return template.type === "map" || template.type === "loop";
}

function fill(grower, owner, branch, templates) {
  templates.forEach((child, at) => place(grower, owner, branch, child, `${branch.step}.${child.name}`, at));
}

/** The items of a map are known when they start: until then one branch stands for all. */
function eachItem(grower, owner, node, templates) {
  const branches = node.children.filter((child) => child.kind === "branch" && !child.pattern);
  for (const branch of branches) fill(grower, owner, branch, templates);
  if (branches.length) return;
  const name = node.kind === "loop" ? "each round" : "each item";
  const pattern = grower.node(`${node.key}/each`, node, { kind: "branch", name, step: `${node.step}.*` });
  fill(grower, owner, pattern, templates);
  mark(pattern);
}

function mark(node) {
  node.pattern = true;
  node.children.forEach(mark);
}
