/** A picture of the service's. */
import { useSource } from "./source";

export function Picture({ url, alt, lazy = false }: { url: string; alt: string; lazy?: boolean }) {
  const source = useSource(url);
  if (source === null) return <span className="dots" role="img" aria-label="The picture is being loaded" />;
  return <img src={source} alt={alt} {...(lazy && { loading: "lazy" as const })} />;
}
