/** Pictures and files of the service, also for a page of another origin, which has to show its token to get them. */
import { useEffect, useState } from "react";
import { addressOf, isElsewhere, request } from "./api";

/** The address that an element can load `url` from; null until it is known. */
export function useSource(url: string): string | null {
  const needsToken = isElsewhere() && url.startsWith("/api/");
  const [made, setMade] = useState<string | null>(null);
  useEffect(() => {
    if (!needsToken) return;
    let address: string | null = null;
    let isCurrent = true;
    request(url)
      .then((response) => response.blob())
      .then((blob) => {
        address = URL.createObjectURL(blob);
        if (isCurrent) setMade(address);
        else URL.revokeObjectURL(address);
      })
      .catch(() => isCurrent && setMade(""));
    return () => {
      isCurrent = false;
      if (address) URL.revokeObjectURL(address);
    };
  }, [url, needsToken]);
  return needsToken ? made : addressOf(url);
}
