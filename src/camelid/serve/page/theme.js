// Dark or light, before anything is drawn: as the system has it, until the switch is used.
{
  const root = document.documentElement;
  const stored = localStorage.getItem("camelid.theme");
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme-switch").addEventListener("click", () => {
      const isSystemDark = matchMedia("(prefers-color-scheme: dark)").matches;
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : isSystemDark;
      root.dataset.theme = isDark ? "light" : "dark";
      localStorage.setItem("camelid.theme", root.dataset.theme);
      dispatchEvent(new Event("theme"));
    });
  });
}
