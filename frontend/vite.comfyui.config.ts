/** The tab inside ComfyUI: one module in the folder that ComfyUI serves for a custom node. */
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Formulas are MathML there, so that no style or font of KaTeX's is asked for. */
function scriptsOnly(): Plugin {
  return {
    name: "scripts-only",
    enforce: "post",
    generateBundle(_, bundle) {
      for (const name of Object.keys(bundle)) if (!/\.m?js$/.test(name)) delete bundle[name];
    },
  };
}

export default defineConfig({
  plugins: [react(), scriptsOnly()],
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  publicDir: false,
  build: {
    outDir: "../comfyui/web",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 1500,
    lib: { entry: "src/comfyui/main.tsx", formats: ["es"], fileName: "atelier" },
    rollupOptions: {
      external: [/scripts\/app\.js$/],
      output: { entryFileNames: "atelier.js", chunkFileNames: "parts/[name]-[hash].mjs" },
    },
  },
});
