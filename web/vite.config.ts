import { defineConfig } from "vite";

// Everything goes into the Python package; nothing is loaded from elsewhere, nothing is inlined,
// so that the page runs under a policy without inline scripts.
export default defineConfig({
  base: "/",
  build: {
    outDir: "../src/lampwork/view/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
