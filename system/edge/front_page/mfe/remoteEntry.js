// The entry of the remote "{{remote}}" until the front end is built.

const NAME = "{{remote}}";

export function describe() {
  return `${NAME} loaded`;
}

export function mount(element) {
  element.textContent = describe();
}
