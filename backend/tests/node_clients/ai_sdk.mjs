// The official AI SDK as a client: runs one scenario against the service and prints what it holds at the end.
// node client.mjs ai6|ai7 SCENARIO URL TOKEN CONVERSATION

const [, , sdk, scenario, url, token, id] = process.argv
const {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
  validateUIMessages,
} = await import(sdk)

class State {
  status = 'ready'
  error = undefined
  messages = []
  pushMessage = (message) => { this.messages = [...this.messages, message] }
  popMessage = () => { this.messages = this.messages.slice(0, -1) }
  replaceMessage = (index, message) => { this.messages = this.messages.map((old, at) => (at === index ? message : old)) }
  snapshot = (value) => structuredClone(value)
}

class Chat extends AbstractChat {
  constructor(options) {
    super({ ...options, state: new State() })
  }
}

const errors = []
const ran = []
const transport = new DefaultChatTransport({
  api: `${url}/api/chat`,
  headers: { Authorization: `Bearer ${token}` },
  body: { clientTools: ['draw'] },
  prepareReconnectToStreamRequest: () => ({
    api: `${url}/api/chat/${id}/stream`,
    headers: { Authorization: `Bearer ${token}` },
  }),
})
const chat = new Chat({
  id,
  transport,
  onError: (error) => errors.push(String(error)),
  sendAutomaticallyWhen: (state) =>
    lastAssistantMessageIsCompleteWithToolCalls(state) || lastAssistantMessageIsCompleteWithApprovalResponses(state),
  onToolCall: ({ toolCall }) => {
    if (toolCall.toolName === 'draw') {
      ran.push([toolCall.toolCallId, chat.lastMessage.parts.find((part) => part.toolCallId === toolCall.toolCallId).approval])
      chat.addToolOutput({ tool: 'draw', toolCallId: toolCall.toolCallId, output: { drawn: toolCall.input } })
    }
  },
})

const parts = () => chat.messages.at(-1)?.parts ?? []
const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
const idle = () => chat.status === 'ready' || chat.status === 'error'
const answered = (text) => () => parts().some((part) => part.type === 'text' && part.text.includes(text)) && idle()
const said = (text) => () => parts().some((part) => part.type === 'text' && part.text.includes(text))

const scenarios = {
  text: async () => {
    await chat.sendMessage({ text: 'Hello' })
    await chat.sendMessage({ text: 'Again' })
  },
  tool: async () => {
    await chat.sendMessage({ text: 'What is 12 * 34?' })
  },
  client: async () => {
    chat.sendMessage({ text: 'Draw' })
    await until(answered('Done.'))
  },
  approval: async () => {
    await chat.sendMessage({ text: 'Go' })
    const [request] = parts().filter((part) => part.state === 'approval-requested')
    chat.addToolApprovalResponse({ id: request.approval.id, approved: true })
    await until(answered('Done.'))
  },
  refusal: async () => {
    await chat.sendMessage({ text: 'Go' })
    const [request] = parts().filter((part) => part.state === 'approval-requested')
    chat.addToolApprovalResponse({ id: request.approval.id, approved: false, reason: 'too dear' })
    await until(answered('Done.'))
  },
  allowing: async () => {
    await chat.sendMessage({ text: 'Draw' })
    if (ran.length) throw new Error('A client tool ran before its approval.')
    const [request] = parts().filter((part) => part.state === 'approval-requested')
    chat.addToolApprovalResponse({ id: request.approval.id, approved: true })
    await until(answered('Done.'))
  },
  refusing: async () => {
    await chat.sendMessage({ text: 'Draw' })
    const [request] = parts().filter((part) => part.state === 'approval-requested')
    chat.addToolApprovalResponse({ id: request.approval.id, approved: false })
    await until(answered('Done.'))
  },
  stop: async () => {
    chat.sendMessage({ text: 'Hello' })
    await until(said('One '))
    await fetch(`${url}/api/chat/${id}/stop`, { method: 'POST', headers: { Authorization: `Bearer ${token}` } })
    await until(idle)
  },
  resume: async () => {
    await chat.resumeStream()
  },
  regenerate: async () => {
    await chat.sendMessage({ text: 'Hello' })
    await chat.regenerate()
  },
  edit: async () => {
    await chat.sendMessage({ text: 'Hello' })
    await chat.sendMessage({ text: 'Hallo', messageId: chat.messages[0].id })
  },
  file: async () => {
    const file = { type: 'file', mediaType: 'image/png', url: 'data:image/png;base64,AAAA' }
    await chat.sendMessage({ text: 'What is this?', files: [file] })
  },
}

await scenarios[scenario]()
const messages = chat.messages
if (messages.length) await validateUIMessages({ messages })
console.log(JSON.stringify({ messages, status: chat.status, errors, ran }))
process.exit(0)
