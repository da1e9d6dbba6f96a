// Draws openapi.json. All text goes in as text nodes, never as markup.

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
};

const table = (heads, rows) =>
  rows.length === 0 ? null : element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", {}, head)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))))));

const code = (text) => element("code", {}, text);

// "string", "Job", "integer or null": enough to read; the whole schema is in openapi.json.
const kind = (schema = {}) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return [...new Set(schema.anyOf.map(kind))].join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.format ?? schema.type ?? "any JSON";
};

const fields = (schema) => table(["field", "type", ""],
  Object.entries(schema.properties ?? {}).map(([name, field]) => [
    code(schema.required?.includes(name) ? `${name} *` : name), kind(field), field.description ?? ""]));

const curl = (method, path, operation, schema) => {
  const parts = ["curl -i"];
  if (operation.requestBody?.content["multipart/form-data"]) parts.push("-F file=@PATH");
  else if (schema?.examples) parts.push("-H 'Content-Type: application/json' -d", `'${JSON.stringify(schema.examples[0])}'`);
  else if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  return [...parts, `'${location.origin}${path}'`].join(" ");
};

const endpoint = (method, path, operation, shapes) => {
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const schema = body?.$ref ? shapes[kind(body)] : body;
  return element("details", { id: operation.operationId },
    element("summary", {}, element("b", {}, method.toUpperCase()), code(path), ` ${operation.summary ?? ""}`),
    element("p", {}, operation.description ?? ""),
    element("pre", {}, curl(method, path, operation, schema)),
    table(["parameter", "in", ""], (operation.parameters ?? []).map((parameter) => [
      code(parameter.required ? `${parameter.name} *` : parameter.name), parameter.in, parameter.description ?? ""])),
    schema ? element("h3", {}, "Body") : null,
    schema ? fields(schema) : null,
    element("h3", {}, "Answers"),
    table(["status", "body", ""], Object.entries(operation.responses).map(([status, answer]) => [
      code(status),
      Object.values(answer.content ?? {}).map((body) => kind(body.schema)).join(", "),
      answer.description ?? ""])));
};

const draw = (api) => {
  const about = document.getElementById("about");
  about.replaceChildren(`${api.info.description} Version ${api.info.version}. Machine-readable: `,
    element("a", { href: "openapi.json" }, "openapi.json"), ".");
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })));
  const main = document.getElementById("endpoints");
  const contents = document.getElementById("contents");
  for (const tag of api.tags) {
    const own = operations.filter(({ operation }) => operation.tags?.includes(tag.name));
    main.append(element("h2", { id: tag.name }, tag.name), element("p", {}, tag.description),
      ...own.map(({ method, path, operation }) => endpoint(method, path, operation, api.components.schemas)));
    contents.append(element("a", { href: `#${tag.name}` }, tag.name));
  }
  main.append(element("h2", { id: "shapes" }, "shapes"), ...Object.entries(api.components.schemas).map(([name, schema]) =>
    element("details", { id: `shape-${name}` }, element("summary", {}, code(name)),
      element("p", {}, schema.description ?? ""), fields(schema) ?? element("p", {}, kind(schema)))));
  contents.append(element("a", { href: "#shapes" }, "shapes"));
};

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
  draw(await response.json());
} catch (error) {
  document.getElementById("about").textContent = `The description could not be loaded: ${error.message}`;
}
