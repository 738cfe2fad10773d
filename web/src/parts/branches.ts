// From a flat list of tensors to the tree of modules that they belong to.

import type { TensorEntry } from "../data/types";

export interface Branch {
  /** Dotted name of a module or parameter; "" is the model. */
  name: string;
  title: string;
  module: string;
  children: Branch[];
}

/** Modules and parameters by their dotted names, in the order of first sight. */
export function branches(tensors: TensorEntry[]): Branch[] {
  const known = new Map<string, Branch>();
  const roots: Branch[] = [];
  const at = (name: string): Branch => {
    const found = known.get(name);
    if (found) return found;
    const parts = name.split(".");
    const branch = { name, title: parts.at(-1) || "(model)", module: "", children: [] };
    known.set(name, branch);
    (parts.length > 1 ? at(parts.slice(0, -1).join(".")).children : roots).push(branch);
    return branch;
  };
  for (const tensor of tensors) {
    const branch = at(tensor.name);
    if (tensor.kind === "output") branch.module = tensor.module;
    else if (tensor.kind === "weight") branch.module = tensor.shape.join("×");
  }
  return roots;
}

/** The tensors that belong to a place of the tree: its own, and its direct parameters. */
export function tensorsOf(tensors: TensorEntry[], name: string): TensorEntry[] {
  const own = tensors.filter((tensor) => tensor.name === name);
  const direct = tensors.filter((tensor) => {
    const rest = tensor.name.startsWith(name ? `${name}.` : "") ? tensor.name.slice(name ? name.length + 1 : 0) : "";
    const parameter = tensor.kind !== "output" && tensor.kind !== "grad_output";
    return parameter && rest !== "" && !rest.includes(".") && tensor.name !== name;
  });
  return [...own, ...direct];
}
